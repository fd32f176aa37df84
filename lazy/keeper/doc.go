// Package keeper is a process that holds what must not be lost while others come and go: the fanotify group on which readers of incomplete
// devices wait, the descriptors of these devices and the maps of what is present, a table of the events that are not answered, and connections to the kernel's FUSE. When the
// last descriptor of a group is closed the kernel lets all readers go on, and they would read zeros; so the keeper does nothing that could
// make it fail: no network, no formats, no memory that grows. A worker, another process, attaches, fills devices and answers.
//
// # Who may be killed
//
//   - The worker: events stay in the table, new ones are added to it, and the next worker answers them. That is the stand-by, if the worker has named
//     the program of one: the keeper starts it with the first device or connection, it waits, attached to nothing, and becomes the worker as soon as there is none. Then the keeper starts another
//     one. A worker that wants to attach goes before it.
//   - The stand-by: the keeper starts it again.
//   - The keeper: a holder, a process in another control group that shares the keeper's table of open files and sleeps, still has all of them
//     under the same numbers. The next keeper takes them over. It can be started by the worker.
//   - The holder: the keeper starts another one.
//   - Both: the holder waits, and so do the readers.
//
// The kernel puts events right into the table, since the memory that the keeper reads them to is a part of it. So there is no moment at which
// an event has been read and is known to one process only.
//
// # The table
//
// Shared memory, all numbers in the machine's byte order (format version 1); 64-bit words marked with * are changed atomically:
//
//	0      header of 4096 bytes: magic "WEFTKEEP", format version (4), 0 (4), number of events put into the ring* (8)
//	4096   ring of 4096 numbers of 4 bytes: the slots of new events
//	...    2048 slots of 128 bytes for events:
//	         0 state* (8): the number of the event times 256, plus free 0, pending 1, being answered 2, answered 3
//	         8 slot of the device (4), -1 if it is not known; 12 0 (4); 16 time of arrival in nanoseconds since the start of the machine (8)
//	         24 device number (8) and inode (8) of the file
//	         64 the event as the kernel writes it
//	...    4096 slots of 128 bytes for devices and connections to FUSE:
//	         0 1 for a device, 2 for a connection (4), whose descriptor and memory are the next two; 4 descriptors of content (4) and of the map of present blocks (4) in the keeper; 12 1 if marked (4)
//	         16 number of blocks (8); 24 device number (8) and inode (8) of the file; 64 key (32)
//
// Whoever answers an event changes its state from pending to being answered first. Who fails to do so may not answer: the number could
// belong to another event by now.
//
// # The socket
//
// keeper.sock in the folder run, SOCK_SEQPACKET; one worker at a time. A request is a letter and its numbers, the answer begins with 0 or an
// errno (4 bytes):
//
//	A                attach: group, table, eventfd that counts new events, and the memory for secrets as descriptors
//	B                stand by: the answer is that of A and comes when there is no worker; the end of the connection says that another process stands by
//	P TEXTS          the program of a stand-by and its arguments, an empty text, and its environment, each text ended by a 0
//	D KEY BLOCKS 0|1 keep a device, marked or not, with its two descriptors (content; maps of the blocks present and of those read): its slot
//	F NAME           keep a connection to FUSE, with its descriptor and its memory: its slot
//	G SLOT           the two descriptors of a device or connection
//	M SLOT 0|1       say that the device is marked or not
//	X SLOT           forget a device or connection
//	S                end, if there are none of them
//
// D, M and X may name up to 64 devices one after the other. A keeper that does not know this, or P, answers EINVAL.
//
// The keeper sends R to a worker that shall end because another one wants to attach.
package keeper
