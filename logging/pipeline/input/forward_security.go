package input

import (
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weft-dev/weft/logging/pipeline/record"
)

// ForwardSecurity says who may send: who knows the shared key, and one of the users if there are any.
type ForwardSecurity struct {
	Self      string // this server's name, "" for the machine's
	SharedKey string
	Users     map[string]string // passwords by name
	Clients   []ForwardClient
	KnownOnly bool // only clients that are named may connect
}

// ForwardClient is what holds for the senders of a network instead.
type ForwardClient struct {
	Network   netip.Prefix
	SharedKey string   // "" for that of all
	Users     []string // names of those that may send from there; empty for all
}

// client finds what holds for an address: nil if nothing does.
func (s *ForwardSecurity) client(from net.Addr) *ForwardClient {
	address, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return nil // a Unix socket has no address
	}
	plain := address.Addr().Unmap().WithZone("")
	i := slices.IndexFunc(s.Clients, func(c ForwardClient) bool { return c.Network.Contains(plain) })
	if i < 0 {
		return nil
	}
	return &s.Clients[i]
}

// refusal says why a PING is not accepted, "" if it is, and gives the key that both sides know.
func (s *ForwardSecurity) refusal(from net.Addr, words []string, nonce, auth string) (reason, key string) {
	client := s.client(from)
	if client == nil && s.KnownOnly {
		host, _, err := net.SplitHostPort(from.String())
		if err != nil {
			host = from.String()
		}
		return fmt.Sprintf("anonymous source host '%s' denied", host), ""
	}
	key = s.SharedKey
	if client != nil && client.SharedKey != "" {
		key = client.SharedKey
	}
	if !same(words[3], hexSum(words[2], words[1], nonce, key)) {
		return "shared_key mismatch", ""
	}
	if len(s.Users) == 0 {
		return "", key
	}
	password, ok := s.Users[words[4]]
	if ok && client != nil && len(client.Users) > 0 {
		ok = slices.Contains(client.Users, words[4])
	}
	if !ok || !same(words[5], hexSum(auth, words[4], password)) {
		return "username/password mismatch", ""
	}
	return "", key
}

// longestHandshake is how long a client may take to say who it is.
const longestHandshake = 30 * time.Second

// handshake sends HELO, checks PING and answers PONG.
func (f *Forward) handshake(conn net.Conn, in *valueReader) error {
	random := func() string {
		var b [16]byte
		rand.Read(b[:])
		return hex.EncodeToString(b[:])
	}
	s := f.Security
	self := s.Self
	if self == "" {
		self, _ = os.Hostname() // the protocol takes an empty name as well
	}
	nonce, auth := random(), ""
	if len(s.Users) > 0 {
		auth = random()
	}
	if err := conn.SetDeadline(time.Now().Add(longestHandshake)); err != nil {
		return err
	}
	helo := record.AppendString(append([]byte(nil), 0x92), "HELO")
	helo = append(helo, 0x83)
	helo = record.AppendString(record.AppendString(helo, "nonce"), nonce)
	helo = record.AppendString(record.AppendString(helo, "auth"), auth)
	helo = record.AppendBool(record.AppendString(helo, "keepalive"), !f.Once)
	if _, err := conn.Write(helo); err != nil {
		return err
	}
	ping, err := in.next()
	if err != nil {
		return err
	}
	var words []string
	for i := record.ItemsOf(ping); i.Next(); {
		text, _ := record.Text(i.Value)
		words = append(words, string(text))
	}
	if len(words) < 6 || words[0] != "PING" {
		return errors.New("the client does not answer with PING")
	}
	reason, key := s.refusal(conn.RemoteAddr(), words, nonce, auth)
	pong := record.AppendString(append([]byte(nil), 0x95), "PONG")
	pong = record.AppendBool(pong, reason == "")
	pong = record.AppendString(pong, reason)
	digest := ""
	if reason == "" {
		digest = hexSum(words[2], self, nonce, key)
	} else {
		self = ""
	}
	pong = record.AppendString(record.AppendString(pong, self), digest)
	if _, err := conn.Write(pong); err != nil {
		return err
	}
	if reason != "" {
		return errors.New(reason)
	}
	return conn.SetDeadline(time.Time{})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func hexSum(parts ...string) string {
	sum := sha512.Sum512([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}
