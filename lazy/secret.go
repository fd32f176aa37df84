package lazy

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
)

// The memory that the keeper has for credentials holds two of them, each in its half, of which the newer one counts. So a process that is killed while it
// writes leaves what was there before. Numbers are in the machine's byte order:
//
//	0  "WSEC" (4), length of the JSON (4), number (8), CRC-32 of all this and the JSON (4), 0 (4)
//	24 JSON of an inheritance
//
// Before there were halves it began with the JSON.
const (
	secretMagic  = "WSEC"
	secretHeader = 24
	secretHalf   = 4 << 20
)

var errSecrets = errors.New("the credentials of an earlier process are not readable")

// readSecret gives what an earlier process left; the zero value if there is nothing.
func readSecret(f io.ReaderAt) (i inheritance, number uint64, err error) {
	var found []byte
	damaged := false
	for half := range int64(2) {
		head := make([]byte, secretHeader)
		n, err := f.ReadAt(head, half*secretHalf)
		if err != nil && !errors.Is(err, io.EOF) {
			return i, 0, err
		}
		if half == 0 && n > 0 && head[0] == '{' {
			return readOldSecret(f)
		}
		if n == 0 {
			continue
		}
		if string(head[:4]) != secretMagic {
			damaged = damaged || head[0] != 0
			continue
		}
		size, at := binary.NativeEndian.Uint32(head[4:]), binary.NativeEndian.Uint64(head[8:])
		if size > secretHalf-secretHeader {
			damaged = true
			continue
		}
		body := make([]byte, size)
		if _, err := f.ReadAt(body, half*secretHalf+secretHeader); err != nil && !errors.Is(err, io.EOF) || secretSum(head, body) != binary.NativeEndian.Uint32(head[16:]) {
			damaged = true
			continue
		}
		if found == nil || at > number {
			found, number = body, at
		}
	}
	switch {
	case found == nil && damaged:
		return i, 0, errSecrets
	case found == nil:
		return i, 0, nil
	}
	if err := json.Unmarshal(found, &i); err != nil || i.Version != inheritanceVersion {
		return inheritance{}, number, errSecrets
	}
	return i, number, nil
}

func readOldSecret(f io.ReaderAt) (i inheritance, number uint64, err error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return i, 0, err
	}
	i.Known = map[string]authn.AuthConfig{}
	if err := json.Unmarshal(b, &i.Known); err != nil {
		return inheritance{}, 0, errSecrets
	}
	return i, 0, nil
}

func secretSum(head, body []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(head[:16]), crc32.IEEETable, body)
}

// writeSecret leaves something under a number, larger than all before, to the next process.
func writeSecret(f io.WriterAt, i inheritance, number uint64) error {
	body, err := json.Marshal(i)
	if err != nil {
		return err
	}
	if len(body) > secretHalf-secretHeader {
		return fmt.Errorf("credentials of %d repositories are too many", len(i.Known)+len(i.Lent))
	}
	b := make([]byte, secretHeader, secretHeader+len(body))
	copy(b, secretMagic)
	binary.NativeEndian.PutUint32(b[4:], uint32(len(body)))
	binary.NativeEndian.PutUint64(b[8:], number)
	binary.NativeEndian.PutUint32(b[16:], secretSum(b, body))
	_, err = f.WriteAt(append(b, body...), int64(number%2)*secretHalf)
	return err
}
