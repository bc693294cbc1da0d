package api

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// The cost of a hash of ours: one pass more than RFC 9106's floor, in memory that several at once can have.
const (
	argonMemory  = 19 << 10 // KiB
	argonPasses  = 2
	argonThreads = 1
	argonSalt    = 16 // bytes
	argonKey     = 32 // bytes
)

// Bounds of what a configured hash may cost, so that a typing error doesn't stop the machine.
const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonPasses = 16
	maxBcryptCost  = 15
	maxBcrypt      = 72 // bytes of a password that bcrypt looks at
)

// matcher checks a password against one hash.
type matcher interface {
	matches(password string) bool
}

// HashPassword returns the argon2id hash of a password as a PHC string ("$argon2id$v=19$m=…,t=…,p=…$salt$key"), with a
// new salt each time. It fails for an empty password.
func HashPassword(plain string) (string, error) {
	if plain == "" {
		return "", errors.New("a password must not be empty")
	}
	h := argonHash{memory: argonMemory, passes: argonPasses, threads: argonThreads, salt: make([]byte, argonSalt)}
	_, _ = rand.Read(h.salt) // it never fails
	h.key = h.derive(plain, argonKey)
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.threads,
		enc.EncodeToString(h.salt), enc.EncodeToString(h.key)), nil
}

// CheckHash says in the error what is wrong with a configured password hash: it must be argon2id as a PHC string, or
// bcrypt, at a cost that this machine can bear on a request.
func CheckHash(encoded string) error {
	_, err := parseHash(encoded)
	return err
}

func parseHash(encoded string) (matcher, error) {
	switch {
	case strings.HasPrefix(encoded, "$argon2id$"):
		return parseArgon(encoded)
	case strings.HasPrefix(encoded, "$2a$"), strings.HasPrefix(encoded, "$2b$"), strings.HasPrefix(encoded, "$2y$"):
		cost, err := bcrypt.Cost([]byte(encoded))
		if err != nil {
			return nil, fmt.Errorf("the bcrypt hash is malformed: %w", err)
		}
		if cost > maxBcryptCost {
			return nil, fmt.Errorf("the bcrypt hash costs %d; at most %d is allowed", cost, maxBcryptCost)
		}
		return bcryptHash(encoded), nil
	}
	return nil, errors.New("a password hash must start with $argon2id$ or $2a$, $2b$, $2y$ (bcrypt)")
}

type argonHash struct {
	memory, passes uint32 // memory in KiB
	threads        uint8
	salt, key      []byte
}

func parseArgon(encoded string) (argonHash, error) {
	const form = "the argon2id hash must have the form $argon2id$v=19$m=…,t=…,p=…$salt$key"
	parts := strings.Split(encoded, "$") // "", argon2id, v, m t p, salt, key
	if len(parts) != 6 || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return argonHash{}, errors.New(form)
	}
	var h argonHash
	if _, err := fmt.Sscanf(parts[3]+"$", "m=%d,t=%d,p=%d$", &h.memory, &h.passes, &h.threads); err != nil {
		return argonHash{}, fmt.Errorf("%s: %w", form, err)
	}
	if h.memory > maxArgonMemory || h.passes > maxArgonPasses || h.passes == 0 || h.threads == 0 {
		return argonHash{}, fmt.Errorf("the argon2id hash must have m of at most %d KiB, t of 1 to %d and p of at least 1",
			maxArgonMemory, maxArgonPasses)
	}
	var errSalt, errKey error
	h.salt, errSalt = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, errKey = base64.RawStdEncoding.DecodeString(parts[5])
	if errSalt != nil || errKey != nil || len(h.salt) < 8 || len(h.key) < 16 || len(h.key) > 64 {
		return argonHash{}, errors.New(form + ": salt of 8 bytes or more and key of 16 to 64, both base64 without padding")
	}
	return h, nil
}

func (h argonHash) derive(password string, length uint32) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, length)
}

func (h argonHash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.derive(password, uint32(len(h.key))), h.key) == 1
}

type bcryptHash string

// matches refuses what bcrypt would cut off, so that no two passwords open the same door.
func (h bcryptHash) matches(password string) bool {
	err := bcrypt.CompareHashAndPassword([]byte(h), []byte(password))
	return err == nil && len(password) <= maxBcrypt
}
