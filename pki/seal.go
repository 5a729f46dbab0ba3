package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// sealVersion is the first byte of what Seal gives: version, 12 bytes of nonce, AES-256-GCM text and tag.
const sealVersion = 1

const keySize = 32

// Sealer seals values that go into the store, under a key that never does. Safe for concurrent use.
type Sealer struct {
	key  []byte
	aead cipher.AEAD
}

// NewSealer takes a key of 32 bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("key file has %d bytes, want %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{append([]byte(nil), key...), aead}, nil
}

// Derive gives a password for a purpose that everybody with the same key file derives alike, and that tells nothing of the key.
func (s *Sealer) Derive(purpose string) string {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte("understudy-derive:" + purpose))
	return hex.EncodeToString(h.Sum(nil))
}

// NewSealKey makes a key of 32 random bytes.
func NewSealKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key) // never fails: the program dies without randomness
	return key
}

// OpenSealer reads a key file, which nobody but its owner may read.
func OpenSealer(path string) (*Sealer, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o, want 0600", path, st.Mode().Perm())
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return NewSealer(key)
}

// Seal encrypts plain so that only Open under the same name gives it back: a sealed value copied to another key of the
// store does not open there.
func (s *Sealer) Seal(name string, plain []byte) []byte {
	out := make([]byte, 1+s.aead.NonceSize(), 1+s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	out[0] = sealVersion
	rand.Read(out[1:])
	return s.aead.Seal(out, out[1:], plain, []byte("understudy-seal:"+name))
}

// ErrSealed says that a sealed value does not open: another key file, another name, or damage.
var ErrSealed = errors.New("sealed value does not open: wrong key file, wrong place or damaged")

// Open decrypts what Seal gave for name.
func (s *Sealer) Open(name string, sealed []byte) ([]byte, error) {
	n := 1 + s.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%s: %w", name, ErrSealed)
	}
	plain, err := s.aead.Open(nil, sealed[1:n], sealed[n:], []byte("understudy-seal:"+name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrSealed)
	}
	return plain, nil
}

// WriteFile writes a file whole or not at all: beside it, synced, then renamed over it.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	return nil
}
