package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/weft-dev/weft/lazy/fanotify"
)

// Sizes of the table, see the package comment.
const (
	tableMagic   = "WEFTKEEP"
	tableVersion = 1
	headerSize   = 4096
	ringSize     = 4096
	eventSlots   = 2048
	deviceSlots  = 4096
	slotSize     = 128
	bufferSize   = 64

	ringAt    = headerSize
	eventsAt  = ringAt + 4*ringSize
	devicesAt = eventsAt + eventSlots*slotSize
	tableSize = devicesAt + deviceSlots*slotSize
)

// The states of an event.
const (
	free = iota
	pending
	answering
	answered
)

// ErrTable says that the shared memory is not a table that this program understands.
var ErrTable = errors.New("the keeper's table is not readable")

// table is the shared memory.
type table struct{ memory []byte }

// newTable writes the header of an empty table.
func newTable(memory []byte) *table {
	copy(memory, tableMagic)
	binary.NativeEndian.PutUint32(memory[8:], tableVersion)
	return &table{memory}
}

// openTable checks a table of another process.
func openTable(memory []byte) (*table, error) {
	if len(memory) != tableSize || string(memory[:8]) != tableMagic {
		return nil, fmt.Errorf("%w: it has %d bytes, expected %d beginning with %s", ErrTable, len(memory), tableSize, tableMagic)
	}
	if v := binary.NativeEndian.Uint32(memory[8:]); v != tableVersion {
		return nil, fmt.Errorf("%w: format version %d, this program reads version %d; stop the old keeper when nothing is mounted", ErrTable, v, tableVersion)
	}
	return &table{memory}, nil
}

func (t *table) word(at int) *uint64 {
	return (*uint64)(unsafe.Pointer(&t.memory[at])) //nolint:gosec // at is a multiple of 8 inside the table
}

// announce puts the slot of a new event into the ring.
func (t *table) announce(slot int) {
	n := atomic.LoadUint64(t.word(16))
	binary.NativeEndian.PutUint32(t.memory[ringAt+4*int(n%ringSize):], uint32(slot))
	atomic.StoreUint64(t.word(16), n+1)
}

// announced is the number of events put into the ring so far, and slot number n of them.
func (t *table) announced() uint64 { return atomic.LoadUint64(t.word(16)) }
func (t *table) inRing(n uint64) int {
	return int(binary.NativeEndian.Uint32(t.memory[ringAt+4*int(n%ringSize):]) % eventSlots)
}

// event is a slot of an event.
type event struct{ memory []byte }

func (t *table) event(i int) event {
	return event{t.memory[eventsAt+i*slotSize:][:slotSize]}
}

func (e event) state() *uint64 { return (*uint64)(unsafe.Pointer(&e.memory[0])) } //nolint:gosec // slots are aligned

func (e event) load() (number uint64, state int) {
	s := atomic.LoadUint64(e.state())
	return s >> 8, int(s & 0xff)
}

// move changes the state of event number n.
func (e event) move(n uint64, from, to int) bool {
	return atomic.CompareAndSwapUint64(e.state(), n<<8|uint64(from), n<<8|uint64(to))
}

// buffer is where the kernel writes the event.
func (e event) buffer() []byte { return e.memory[slotSize-bufferSize:] }

// filled says that the kernel has written an event here that is not cleared.
func (e event) filled() bool { return binary.NativeEndian.Uint32(e.buffer()) != 0 }

func (e event) parse() (fanotify.Event, error) { return fanotify.Parse(e.buffer()) }

func (e event) deviceSlot() int     { return int(int32(binary.NativeEndian.Uint32(e.memory[8:]))) }
func (e event) setDeviceSlot(n int) { binary.NativeEndian.PutUint32(e.memory[8:], uint32(int32(n))) }
func (e event) arrival() int64      { return int64(binary.NativeEndian.Uint64(e.memory[16:])) }
func (e event) setArrival(n int64)  { binary.NativeEndian.PutUint64(e.memory[16:], uint64(n)) }
func (e event) file() fileID        { return readFile(e.memory[24:]) }
func (e event) setFile(f fileID)    { f.write(e.memory[24:]) }

// clear makes the slot free. The buffer goes first: a filled buffer means that an event waits.
func (e event) clear() {
	n, _ := e.load()
	clear(e.buffer())
	atomic.StoreUint64(e.state(), n<<8) // free, which is 0
}

// fileID names a file on this machine.
type fileID struct{ device, inode uint64 }

func readFile(p []byte) fileID {
	return fileID{binary.NativeEndian.Uint64(p), binary.NativeEndian.Uint64(p[8:])}
}

func (f fileID) write(p []byte) {
	binary.NativeEndian.PutUint64(p, f.device)
	binary.NativeEndian.PutUint64(p[8:], f.inode)
}

// deviceSlot is a slot of a device.
type deviceSlot struct{ memory []byte }

func (t *table) device(i int) deviceSlot {
	return deviceSlot{t.memory[devicesAt+i*slotSize:][:slotSize]}
}

func (d deviceSlot) number(at int) int { return int(int32(binary.NativeEndian.Uint32(d.memory[at:]))) }
func (d deviceSlot) setNumber(at int, n int) {
	binary.NativeEndian.PutUint32(d.memory[at:], uint32(int32(n)))
}

// What a slot holds.
const (
	slotFree = iota
	slotDevice
	slotConnection // to the kernel's FUSE: content is its descriptor, present its memory, key its name
)

func (d deviceSlot) kind() int     { return d.number(0) }
func (d deviceSlot) used() bool    { return d.kind() == slotDevice }
func (d deviceSlot) content() int  { return d.number(4) }
func (d deviceSlot) present() int  { return d.number(8) }
func (d deviceSlot) marked() bool  { return d.number(12) == 1 }
func (d deviceSlot) blocks() int64 { return int64(binary.NativeEndian.Uint64(d.memory[16:])) }
func (d deviceSlot) file() fileID  { return readFile(d.memory[24:]) }
func (d deviceSlot) key() [32]byte { return [32]byte(d.memory[64:96]) }

func (d deviceSlot) set(key [32]byte, blocks int64, file fileID, content, present int) {
	copy(d.memory[64:], key[:])
	binary.NativeEndian.PutUint64(d.memory[16:], uint64(blocks))
	file.write(d.memory[24:])
	d.setNumber(4, content)
	d.setNumber(8, present)
	d.setNumber(12, 0)
	d.setNumber(0, slotDevice)
}

func (d deviceSlot) setConnection(name [32]byte, device, memory int) {
	copy(d.memory[64:], name[:])
	d.setNumber(4, device)
	d.setNumber(8, memory)
	d.setNumber(0, slotConnection)
}
