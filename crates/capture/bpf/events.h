/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records that cross from the kernel to the reader, defined here once.
 * `src/record.rs` mirrors them; a unit test compares every member with the BTF
 * that clang wrote for these very structs, so the two cannot drift apart.
 */
#ifndef SONDE_EVENTS_H
#define SONDE_EVENTS_H

/* Which way bytes go, seen from the program. */
enum direction {
	SENT = 0,
	RECEIVED = 1,
};

enum tls_kind {
	TLS_DATA = 1, /* bytes follow */
	TLS_CLOSED = 2, /* the TLS object is gone */
	TLS_NAMED = 3, /* the server's name follows, as the program set it */
};

/* What happened to a TLS object; `len` bytes follow. */
struct tls_record {
	u32 kind;
	u32 watch; /* which watch's link saw it; from the attach cookie */
	u64 at; /* bpf_ktime_get_ns */
	u64 object; /* address of the SSL object */
	u64 generation; /* when this use of the address was first seen */
	u64 offset; /* stream offset of the first byte that follows */
	u32 len;
	u32 direction;
};

/* A process as it was when something was seen of it, so that one which is gone when the
 * reader looks can still be named. Pids are as the controller's namespace counts; 0 is a
 * process that this namespace does not show. */
struct caller {
	u64 start_time; /* start_boottime */
	u64 parent_start_time;
	u32 pid;
	u32 parent_pid;
	u32 user; /* as the first user namespace counts */
	u32 unused;
	char name[16]; /* comm */
};

enum process_kind {
	PROCESS_FORKED = 1,
	PROCESS_EXECUTED = 2, /* a struct program follows */
	PROCESS_EXITED = 3,
};

/* A process came or went. */
struct process_record {
	u64 at;
	struct caller caller;
	u32 kind;
	u32 unused;
};

#define MAX_FILE 256 /* longer paths are cut */
#define MAX_CGROUP 512 /* a pod's container has about 200 */
#define MAX_ARGUMENTS 1024

/* What a process executed; only `arguments_len` bytes of the last member are sent. */
struct program {
	u32 arguments_len;
	u32 cgroup_len;
	char file[MAX_FILE]; /* ends with a zero */
	char cgroup[MAX_CGROUP]; /* names from the leaf up, each ended by a zero */
	char arguments[MAX_ARGUMENTS]; /* each ended by a zero */
};

enum opening_kind {
	OPENING_HELLO = 1, /* bytes of a TLS ClientHello follow */
	OPENING_REQUEST = 2, /* bytes follow that start like an HTTP request */
	OPENING_CONNECTED = 3, /* a connection to an address of interest stands; no bytes */
};

/* A TCP connection opened, or some of the first bytes that it sent; `len` bytes follow. */
struct opening_record {
	u64 at;
	u64 socket; /* socket cookie */
	struct caller caller; /* who connected */
	u32 kind;
	u32 offset; /* of the first byte that follows, from the first byte of the message */
	u32 len;
	u16 family; /* 4 or 6 */
	u16 port; /* host order */
	u8 address[16]; /* network order; the first 4 bytes for IPv4 */
};

/* An answer of a name server; `len` bytes follow. */
struct answer_record {
	u64 at;
	struct caller caller; /* who asked */
	u32 len;
	u32 unused;
};

/* Why something was not seen. Indices of the map `lost`. */
enum loss {
	LOST_RING_FULL, /* bytes */
	LOST_FAULT, /* bytes: the page was not in memory */
	LOST_TOO_LONG, /* bytes beyond what is copied of one call */
	LOST_CALLS, /* calls whose arguments could not be kept */
	LOST_CONNECTIONS, /* calls whose connection could not be kept */
	LOST_RECORDS, /* other records for which a ring had no room, or storage none */
	LOST_UNREADABLE, /* openings and answers that could not be read from their packet */
	LOST_STRANGERS, /* connections of processes that the reader's pid namespace does not show */
	LOSSES,
};

#endif
