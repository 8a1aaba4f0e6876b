// SPDX-License-Identifier: Apache-2.0
/*
 * How every TCP connection of the node opens: the first bytes that it sends, when they
 * are a TLS ClientHello or start like an HTTP request, with the process that connected;
 * and that a connection to an address of interest stands.
 *
 * Hooks: the BTF tracepoint inet_sock_set_state in connect()'s own context (who), and
 * cgroup_skb egress at the root of cgroup v2 (what). What is known of a socket is kept in
 * socket storage (since 5.11 for tracing programs) and deleted as soon as its opening has
 * passed, so that a later packet costs one look-up.
 */
#include "packet.h"
#include <bpf/bpf_endian.h>

#define ESTABLISHED 1 /* TCP_ESTABLISHED */
#define SYN_SENT 2 /* TCP_SYN_SENT */
#define INET 2 /* AF_INET */
#define INET6 10 /* AF_INET6 */
#define HANDSHAKE 0x16 /* TLS content type */
#define CLIENT_HELLO 1
#define SYN 0x02 /* flag of TCP */
#define SMALL_PIECE 1024
#define PIECE 2048
#define MAX_PIECES 8
#define MAX_HELLO (PIECE * MAX_PIECES) /* with post-quantum key shares a hello has about 2 KiB */
#define MAX_REQUEST 2048 /* a request line and headers up to Host, a long token before it, too */
#define MAX_TUNNEL 8192 /* what a client tells a proxy before its hello */
#define MAX_PACKETS 1024 /* looked at of one connection, acknowledgements included */

/* What is being sent. */
enum phase {
	NOTHING = 0,
	HELLO,
	REQUEST,
	CONNECT, /* a request for a tunnel: a hello may follow */
	SOCKS, /* the same, to a SOCKS proxy, and nothing of it is wanted */
};

struct opening {
	struct caller caller;
	u32 phase;
	u32 first; /* sequence number of the first byte of the connection */
	u32 base; /* sequence number of the first byte of the hello or request */
	u32 needed; /* bytes of it to take */
	u32 packets; /* that were looked at */
	u32 unused;
};

/* Keeps the record's type in the type information, for the test of its layout. */
struct opening_record *opening_record_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct opening);
} openings SEC(".maps");

struct address {
	u8 octets[16];
};

/* Addresses whose connections are reported, IPv4 as IPv6 writes it (::ffff:a.b.c.d). The
 * reader fills it; where it is full, one that was not connected to lately gives way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	/* Four times what is promised: each CPU sets some free places aside for itself. */
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, u32);
} interest SEC(".maps");

struct segment {
	struct packet packet;
	u16 port;
	u16 is_syn;
	u32 sequence;
	u32 payload; /* where it starts in the packet */
	u32 len;
};

static __always_inline void on_connect(struct sock *sk)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 pid = pid_of(task);

	if (!pid) {
		count_lost(LOST_STRANGERS, 1);
		return;
	}

	struct opening *opening =
		bpf_sk_storage_get(&openings, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!opening) {
		count_lost(LOST_RECORDS, 1);
		return;
	}
	describe_caller(&opening->caller, pid, task,
			BPF_CORE_READ(task, group_leader, real_parent));
	opening->phase = NOTHING;
	opening->first = 0;
	opening->packets = 0;
}

static __always_inline void on_established(struct sock *sk)
{
	struct address to = {};
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family == INET) {
		u32 address = BPF_CORE_READ(sk, __sk_common.skc_daddr);

		to.octets[10] = 0xff;
		to.octets[11] = 0xff;
		__builtin_memcpy(to.octets + 12, &address, 4);
	} else if (family == INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		bpf_core_read(&to, sizeof(to), &sk->__sk_common.skc_v6_daddr);
	}
	if (!bpf_map_lookup_elem(&interest, &to))
		return;

	struct opening *opening = bpf_sk_storage_get(&openings, sk, 0, 0);

	if (!opening)
		return;

	struct opening_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost(LOST_RECORDS, 1);
		return;
	}
	record->at = bpf_ktime_get_ns();
	record->socket = 0;
	record->caller = opening->caller;
	record->kind = OPENING_CONNECTED;
	record->offset = 0;
	record->len = 0;
	record->family = 6;
	record->port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__builtin_memcpy(record->address, to.octets, sizeof(record->address));
	bpf_ringbuf_submit(record, 0);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	if (new == SYN_SENT)
		on_connect(sk);
	else if (new == ESTABLISHED && old == SYN_SENT)
		on_established(sk);
	return 0;
}

/* Finds the payload of a TCP packet. */
static __always_inline bool find_payload(struct __sk_buff *skb, struct segment *segment)
{
	u8 tcp[14] = {};

	if (!find_transport(skb, &segment->packet) || segment->packet.protocol != TCP)
		return false;
	if (bpf_skb_load_bytes(skb, segment->packet.transport, tcp, sizeof(tcp)))
		return false;
	segment->port = (u16)tcp[2] << 8 | tcp[3];
	segment->sequence = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
	segment->is_syn = tcp[13] & SYN;
	/* A SYN takes a number of its own, before the bytes that it may carry (fast open). */
	if (segment->is_syn)
		segment->sequence++;
	segment->payload = segment->packet.transport + (tcp[12] >> 4) * 4;
	segment->len = segment->payload < skb->len ? skb->len - segment->payload : 0;
	return true;
}

/* How many bytes to take, told by the first bytes; 0 when they start no ClientHello. */
static __always_inline u32 hello_needed(struct __sk_buff *skb, const struct segment *segment)
{
	u8 start[9] = {};
	u32 record, hello;

	if (bpf_skb_load_bytes(skb, segment->payload, start, 1) || start[0] != HANDSHAKE)
		return 0;
	if (bpf_skb_load_bytes(skb, segment->payload, start, sizeof(start)))
		return MAX_HELLO;
	if (start[1] != 3)
		return 0;
	record = (u32)start[3] << 8 | start[4];
	if (!record || start[5] != CLIENT_HELLO)
		return 0;
	/* A record may end before the message says how long it is. */
	if (record < 4)
		return MAX_HELLO;
	hello = 4 + ((u32)start[6] << 16 | (u32)start[7] << 8 | start[8]);
	return hello <= record && 5 + hello < MAX_HELLO ? 5 + hello : MAX_HELLO;
}

#define WORD(a, b, c, d) ((u32)a << 24 | (u32)b << 16 | (u32)c << 8 | (u32)d)

/* What a connection opens with that does not start with a hello. */
static __always_inline u32 phase_of(struct __sk_buff *skb, const struct segment *segment)
{
	u8 start[4] = {};

	if (bpf_skb_load_bytes(skb, segment->payload, start, 1))
		return NOTHING;
	/* SOCKS 5 offers its methods (RFC 1928 section 3), SOCKS 4 asks to connect. */
	if (start[0] == 5 || start[0] == 4) {
		if (bpf_skb_load_bytes(skb, segment->payload, start, 2))
			return NOTHING;
		if (start[0] == 5 ? segment->len == 2 + (u32)start[1] : start[1] == 1)
			return SOCKS;
		return NOTHING;
	}
	if (start[0] < 'A' || start[0] > 'Z')
		return NOTHING;
	/* Too little to tell: who writes letter by letter may ask for a tunnel, too. */
	if (bpf_skb_load_bytes(skb, segment->payload, start, sizeof(start)))
		return CONNECT;
	switch (WORD(start[0], start[1], start[2], start[3])) {
	case WORD('C', 'O', 'N', 'N'):
		return CONNECT;
	case WORD('G', 'E', 'T', ' '):
	case WORD('P', 'O', 'S', 'T'):
	case WORD('P', 'U', 'T', ' '):
	case WORD('H', 'E', 'A', 'D'):
	case WORD('P', 'A', 'T', 'C'):
	case WORD('D', 'E', 'L', 'E'):
	case WORD('O', 'P', 'T', 'I'):
		return REQUEST;
	}
	return NOTHING;
}

#define EMIT(size)                                                                         \
	do {                                                                               \
		struct opening_record *record =                                            \
			bpf_ringbuf_reserve(&records, sizeof(*record) + size, 0);          \
		if (!record) {                                                             \
			count_lost(LOST_RECORDS, 1);                                       \
			return;                                                            \
		}                                                                          \
		/* The verifier must see that at least one byte is asked for. */           \
		u32 bounded = ((len - 1) & (size - 1)) + 1;                                \
		if (bpf_skb_load_bytes(skb, at, record + 1, bounded)) {                    \
			bpf_ringbuf_discard(record, 0);                                    \
			count_lost(LOST_UNREADABLE, 1);                                    \
			return;                                                            \
		}                                                                          \
		record->at = bpf_ktime_get_ns();                                           \
		record->socket = bpf_get_socket_cookie(skb);                               \
		record->caller = opening->caller;                                          \
		record->kind = opening->phase == HELLO ? OPENING_HELLO : OPENING_REQUEST;  \
		record->offset = offset;                                                   \
		record->len = len;                                                         \
		record->family = segment->packet.family;                                   \
		record->port = segment->port;                                              \
		__builtin_memcpy(record->address, segment->packet.to, 16);                 \
		bpf_ringbuf_submit(record, 0);                                             \
	} while (0)

/* Hands on what a segment has of the bytes that are needed, in pieces. */
static __always_inline void emit(struct __sk_buff *skb, const struct segment *segment,
				 const struct opening *opening, u32 offset)
{
	u32 at = segment->payload;
	u32 left = segment->len;

	if (left > opening->needed - offset)
		left = opening->needed - offset;
	for (u32 i = 0; i < MAX_PIECES; i++) {
		u32 len = left < PIECE ? left : PIECE;

		if (!len)
			return;
		if (len <= SMALL_PIECE)
			EMIT(SMALL_PIECE);
		else
			EMIT(PIECE);
		at += len;
		offset += len;
		left -= len;
	}
}

/* Decides what a connection opens with; false when it is nothing that is looked for. */
static __always_inline bool begin(struct __sk_buff *skb, const struct segment *segment,
				  struct opening *opening)
{
	u32 hello = hello_needed(skb, segment);

	opening->base = segment->sequence;
	opening->needed = hello;
	opening->phase = hello ? HELLO : phase_of(skb, segment);
	if (opening->phase == REQUEST || opening->phase == CONNECT)
		opening->needed = MAX_REQUEST;
	return opening->phase != NOTHING;
}

/* Whether a segment of a connection to a proxy starts the hello that the proxy passes on. */
static __always_inline bool begins_hello(struct __sk_buff *skb, const struct segment *segment)
{
	u8 start[6] = {};

	return !bpf_skb_load_bytes(skb, segment->payload, start, sizeof(start)) &&
	       start[0] == HANDSHAKE && start[1] == 3 && start[5] == CLIENT_HELLO;
}

/* Looks at a segment; true when nothing more of the connection is of use. */
static __always_inline bool is_decided(struct __sk_buff *skb, const struct segment *segment,
				       struct opening *opening)
{
	if (opening->phase == NOTHING) {
		/* Not the first byte: the first was dropped on the way, and comes again. */
		if (opening->first && segment->sequence != opening->first)
			return segment->sequence - opening->first > MAX_HELLO;
		opening->first = segment->sequence;
		if (!begin(skb, segment, opening))
			return true;
	} else if ((opening->phase == CONNECT || opening->phase == SOCKS) &&
		   begins_hello(skb, segment)) {
		opening->phase = HELLO;
		opening->base = segment->sequence;
		opening->needed = hello_needed(skb, segment);
	}

	u32 offset = segment->sequence - opening->base;

	/* Sent again from before the hello. */
	if ((s32)offset < 0)
		return false;
	if (offset < opening->needed && opening->needed <= MAX_HELLO)
		emit(skb, segment, opening, offset);
	if (opening->phase == CONNECT || opening->phase == SOCKS)
		return segment->sequence - opening->first > MAX_TUNNEL;
	return offset + segment->len >= opening->needed;
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
	if (segment.is_syn)
		opening->first = segment.sequence;
	/* A request may be short and its answer long: do not look at every acknowledgement. */
	if ((segment.len && is_decided(skb, &segment, opening)) ||
	    ++opening->packets > MAX_PACKETS)
		bpf_sk_storage_delete(&openings, sk);
	return 1;
}
