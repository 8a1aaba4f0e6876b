/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records that cross from the kernel to the reader, defined here once.
 * `src/record.rs` mirrors them; a unit test compares each offset with the BTF
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
	u64 call_len; /* true length of the call these bytes are part of */
	u64 start_time; /* start_boottime of the process */
	u32 pid; /* as the root pid namespace counts */
	u32 tid;
	u32 len;
	u32 direction;
};

enum process_kind {
	PROCESS_FORKED = 1,
	PROCESS_EXECUTED = 2,
	PROCESS_EXITED = 3,
};

/* A process came or went. Pids are as the controller's namespace counts. */
struct process_record {
	u32 kind;
	u32 pid;
	u64 at;
	u64 start_time;
	u64 parent_start_time;
	u32 parent_pid;
	u32 unused;
};

/* Some of the first bytes that a TCP connection sent; `len` bytes follow. */
struct hello_record {
	u64 at;
	u64 socket; /* socket cookie */
	u64 start_time; /* of the process that connected */
	u32 pid; /* as the controller's namespace counts */
	u32 offset; /* of the first byte that follows, from the first byte sent */
	u32 len;
	u16 family; /* 4 or 6 */
	u16 port; /* host order */
	u8 address[16]; /* network order; the first 4 bytes for IPv4 */
};

/* Why something was not seen. Indices of the map `lost`. */
enum loss {
	LOST_RING_FULL, /* bytes */
	LOST_FAULT, /* bytes: the page was not in memory */
	LOST_TOO_LONG, /* bytes beyond what is copied of one call */
	LOST_CALLS, /* calls whose arguments could not be kept */
	LOST_CONNECTIONS, /* calls whose connection could not be kept */
	LOST_RECORDS, /* records without stream bytes: closes, names, processes, hellos */
	LOSSES,
};

#endif
