package lab

import (
	"fmt"
	"os"
)

func writeFile(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write a lab file: %w", err)
	}
	return nil
}

// removeFile removes a file a killed process may have left; that it is not there is the usual case.
func removeFile(path string) { _ = os.Remove(path) }
