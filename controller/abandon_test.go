package controller

import (
	"testing"
	"time"

	"github.com/understudy-ha/understudy/health"
)

// A write whose outcome could not be read before leadership ended once kept its group from being written ever again.
func TestALostLeaderForgetsItsUnfinishedWrites(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.cut = true
	w.probe("a", health.Fail, 3)
	w.pass(10 * time.Second)
	if w.core.leading {
		t.Fatal("still leads without a store")
	}
	w.cut = false
	w.pass(10 * time.Second)
	if a := w.assignment(); a.Active != "b" {
		t.Fatalf("assignment %+v, want b once the store is back", a)
	}
}

// A controller that was told to stop while it followed must not begin to lead.
func TestAStoppedFollowerDoesNotLead(t *testing.T) {
	w := newWorld(t)
	w.up(nil)
	w.cut = true
	w.probe("a", health.Fail, 3)
	w.pass(10 * time.Second)
	w.push(Stop{})
	w.pass(time.Second)
	w.cut = false
	w.pass(10 * time.Second)
	if w.core.leading || !w.core.stopped {
		t.Fatalf("leading %v, stopped %v, want false, true", w.core.leading, w.core.stopped)
	}
}
