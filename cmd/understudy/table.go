package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table lines up cells. The last column is never padded.
type table struct {
	head []string
	rows [][]string
	// shade colours a cell of a column by what it says; nil leaves it.
	shade func(column int, cell string) string
}

func newTable(head ...string) *table { return &table{head: head} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table, each line after indent.
func (t *table) write(w io.Writer, indent string) {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	t.line(w, indent, t.head, width, nil)
	for _, row := range t.rows {
		t.line(w, indent, row, width, t.shade)
	}
}

// line prints one row; a cell may be wider than its column, which then only shifts what follows.
func (t *table) line(w io.Writer, indent string, row []string, width []int, shade func(int, string) string) {
	var b strings.Builder
	b.WriteString(indent)
	for i, cell := range row {
		shown := cell
		if shade != nil {
			shown = shade(i, cell)
		}
		b.WriteString(shown)
		if i < len(row)-1 {
			b.WriteString(strings.Repeat(" ", max(0, width[i]-utf8.RuneCountInString(cell))+2))
		}
	}
	fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
}

// age is how long ago t was, in its largest unit.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := now.Sub(t); {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// clockTime is a moment as people read it, in local time.
func clockTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// seconds shows a duration with as many digits as mean something: "83ms", "1.52s", "2m5s".
func seconds(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// orDash shows an empty cell as "-".
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
