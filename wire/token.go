package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// A one-time token as people carry it is SECRET.FINGERPRINT: what the controllers know, and the SHA-256 of the CA's
// certificate in hex, by which the node knows that it talks to the right cluster before it shows the secret.

// JoinToken makes a token for people of a secret and the CA's certificate (DER).
func JoinToken(secret string, ca []byte) string {
	sum := sha256.Sum256(ca)
	return secret + "." + hex.EncodeToString(sum[:])
}

// ErrToken says that a text is no enrolment token.
var ErrToken = errors.New(`token: want one from "understudy token create --node NAME": it ends in "." and 64 hexadecimal digits`)

// SplitToken takes a token apart.
func SplitToken(token string) (secret string, fingerprint [sha256.Size]byte, err error) {
	i := strings.LastIndexByte(token, '.')
	if i < 1 {
		return "", fingerprint, ErrToken
	}
	sum, err := hex.DecodeString(token[i+1:])
	if err != nil || len(sum) != len(fingerprint) {
		return "", fingerprint, ErrToken
	}
	return token[:i], [sha256.Size]byte(sum), nil
}
