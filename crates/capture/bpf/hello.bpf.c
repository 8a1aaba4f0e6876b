// SPDX-License-Identifier: Apache-2.0
/*
 * The first bytes that every TCP connection of the node sends, when they start a
 * TLS handshake: the ClientHello, with the process that connected.
 *
 * Hooks: the BTF tracepoint inet_sock_set_state in connect()'s own context (who),
 * and cgroup_skb egress at the root of cgroup v2 (what). What is known of a socket
 * is kept in socket storage (since 5.11 for tracing programs) and deleted as soon
 * as the hello has passed, so that a later packet costs one look-up.
 */
#include "common.h"
#include <bpf/bpf_endian.h>

#define SYN_SENT 2 /* TCP_SYN_SENT */
#define TCP 6 /* IPPROTO_TCP */
#define HANDSHAKE 0x16 /* TLS content type */
#define CLIENT_HELLO 1
#define PIECE 2048
#define MAX_PIECES 8
#define MAX_HELLO (PIECE * MAX_PIECES) /* with post-quantum key shares a hello has about 2 KiB */

struct opening {
	u64 start_time;
	u32 pid;
	u32 base; /* sequence number of the first byte sent */
	u32 needed; /* bytes until the hello is complete; 0 before the first */
	u32 unused;
};

/* Keeps the record's type in the type information, for the test of its layout. */
struct hello_record *hello_record_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} hellos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct opening);
} openings SEC(".maps");

struct segment {
	u16 family;
	u16 port;
	u32 sequence;
	u32 payload; /* where it starts in the packet */
	u32 len;
	u8 address[16];
};

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	if (new != SYN_SENT)
		return 0;

	struct task_struct *task = bpf_get_current_task_btf();
	u32 pid = pid_of(task);

	if (!pid)
		return 0;

	struct opening *opening =
		bpf_sk_storage_get(&openings, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!opening) {
		count_lost(LOST_RECORDS, 1);
		return 0;
	}
	opening->pid = pid;
	opening->start_time = start_time_of(task);
	opening->needed = 0;
	return 0;
}

/* Finds the TCP payload of a packet that starts with its IP header. */
static __always_inline bool find_payload(struct __sk_buff *skb, struct segment *segment)
{
	u8 ip[40] = {};
	u8 tcp[14] = {};
	u32 at;

	if (bpf_skb_load_bytes(skb, 0, ip, 20))
		return false;
	if (ip[0] >> 4 == 4) {
		segment->family = 4;
		at = (ip[0] & 0xf) * 4;
		if (ip[9] != TCP)
			return false;
		__builtin_memcpy(segment->address, ip + 16, 4);
	} else {
		segment->family = 6;
		at = 40;
		if (bpf_skb_load_bytes(skb, 0, ip, 40) || ip[6] != TCP)
			return false;
		__builtin_memcpy(segment->address, ip + 24, 16);
	}
	if (bpf_skb_load_bytes(skb, at, tcp, sizeof(tcp)))
		return false;
	segment->port = (u16)tcp[2] << 8 | tcp[3];
	segment->sequence = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
	segment->payload = at + (tcp[12] >> 4) * 4;
	if (segment->payload >= skb->len)
		return false;
	segment->len = skb->len - segment->payload;
	return true;
}

/* How many bytes to take, told by the first bytes; 0 when they start no ClientHello. */
static __always_inline u32 bytes_needed(struct __sk_buff *skb, const struct segment *segment)
{
	u8 start[9] = {};
	u32 record, hello;

	if (bpf_skb_load_bytes(skb, segment->payload, start, 1) || start[0] != HANDSHAKE)
		return 0;
	if (bpf_skb_load_bytes(skb, segment->payload, start, sizeof(start)))
		return MAX_HELLO;
	if (start[1] != 3 || start[5] != CLIENT_HELLO)
		return 0;
	record = (u32)start[3] << 8 | start[4];
	hello = 4 + ((u32)start[6] << 16 | (u32)start[7] << 8 | start[8]);
	return hello <= record && 5 + hello < MAX_HELLO ? 5 + hello : MAX_HELLO;
}

static __always_inline void emit(struct __sk_buff *skb, const struct segment *segment,
				 const struct opening *opening, u32 offset)
{
	u32 at = segment->payload;
	u32 end = at + segment->len;

	for (u32 i = 0; i < MAX_PIECES; i++) {
		if (at >= end)
			return;

		struct hello_record *record =
			bpf_ringbuf_reserve(&hellos, sizeof(*record) + PIECE, 0);
		u32 len = end - at;

		if (!record) {
			count_lost(LOST_RECORDS, 1);
			return;
		}
		if (len > PIECE)
			len = PIECE;
		/* The verifier must see that at least one byte is asked for. */
		len = (len - 1) & (PIECE - 1);
		len += 1;
		if (bpf_skb_load_bytes(skb, at, record + 1, len)) {
			bpf_ringbuf_discard(record, 0);
			count_lost(LOST_RECORDS, 1);
			return;
		}
		record->at = bpf_ktime_get_ns();
		record->socket = bpf_get_socket_cookie(skb);
		record->start_time = opening->start_time;
		record->pid = opening->pid;
		record->offset = offset;
		record->len = len;
		record->family = segment->family;
		record->port = segment->port;
		__builtin_memcpy(record->address, segment->address, sizeof(record->address));
		bpf_ringbuf_submit(record, 0);
		at += len;
		offset += len;
	}
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;

	struct opening *opening = bpf_sk_storage_get(&openings, sk, 0, 0);

	if (!opening)
		return 1;

	struct segment segment = {};

	if (!find_payload(skb, &segment))
		return 1;
	if (!opening->needed) {
		opening->base = segment.sequence;
		opening->needed = bytes_needed(skb, &segment);
		if (!opening->needed) {
			bpf_sk_storage_delete(&openings, sk);
			return 1;
		}
	}

	u32 offset = segment.sequence - opening->base;

	/* Far ahead, or before the first byte: a retransmission across the wrap, or no hello. */
	if (offset < MAX_HELLO) {
		emit(skb, &segment, opening, offset);
		offset += segment.len;
	}
	if (offset >= opening->needed)
		bpf_sk_storage_delete(&openings, sk);
	return 1;
}
