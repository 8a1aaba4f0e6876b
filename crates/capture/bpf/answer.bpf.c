// SPDX-License-Identifier: Apache-2.0
/*
 * The answers of name servers, with the process that asked.
 *
 * Hooks: cgroup connect and sendmsg at the root of cgroup v2 (4.17, 4.18) mark a socket
 * that asks port 53 with its process, in socket storage; cgroup_skb ingress copies what
 * such a socket receives. A packet for any other socket costs one look-up. It is the
 * question's port that counts: what stands between may answer from another one.
 */
#include "packet.h"
#include <bpf/bpf_endian.h>

#define DOMAIN 53
#define HEADER 12 /* RFC 1035 section 4.1.1 */
#define SMALL 512
#define LARGE 4096 /* the most that resolvers offer to take (EDNS(0)), in practice */

struct asker {
	struct caller caller;
};

/* Keeps the record's type in the type information, for the test of its layout. */
struct answer_record *answer_record_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct asker);
} askers SEC(".maps");

static __always_inline int mark(struct bpf_sock_addr *ctx)
{
	if ((u16)ctx->user_port != bpf_htons(DOMAIN))
		return 1;

	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return 1;

	struct asker *asker =
		bpf_sk_storage_get(&askers, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!asker) {
		count_lost(LOST_RECORDS, 1);
		return 1;
	}

	/* Not the typed form: cgroup programs have that only on newer kernels. */
	struct task_struct *task = (void *)bpf_get_current_task();

	describe_caller(&asker->caller, pid_of(task), task,
			BPF_CORE_READ(task, group_leader, real_parent));
	return 1;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	return mark(ctx);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	return mark(ctx);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	return mark(ctx);
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	return mark(ctx);
}

/* Where the message starts in a packet; 0 when there is none. Over TCP its length goes
 * before it, and one that is cut over several segments is not put together. */
static __always_inline u32 message_start(struct __sk_buff *skb)
{
	struct packet packet = {};
	u8 offset = 0;

	if (!find_transport(skb, &packet))
		return 0;
	if (packet.protocol == UDP)
		return packet.transport + 8;
	if (packet.protocol != TCP || bpf_skb_load_bytes(skb, packet.transport + 12, &offset, 1))
		return 0;
	return packet.transport + (offset >> 4) * 4 + 2;
}

#define EMIT(size)                                                                         \
	do {                                                                               \
		struct answer_record *record =                                             \
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
		record->caller = asker->caller;                                            \
		record->len = len;                                                         \
		record->unused = 0;                                                        \
		bpf_ringbuf_submit(record, 0);                                             \
	} while (0)

static __always_inline void emit(struct __sk_buff *skb, const struct asker *asker, u32 at)
{
	u32 len = skb->len - at;

	if (len > LARGE)
		count_lost(LOST_UNREADABLE, 1);
	else if (len > SMALL)
		EMIT(LARGE);
	else if (len)
		EMIT(SMALL);
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;

	struct asker *asker = bpf_sk_storage_get(&askers, sk, 0, 0);

	if (!asker)
		return 1;

	u8 header[HEADER] = {};
	u32 at = message_start(skb);

	if (!at || at >= skb->len || bpf_skb_load_bytes(skb, at, header, HEADER))
		return 1;
	/* A response without an error, and with answers. */
	if (header[2] & 0x80 && !(header[3] & 0xf) && (header[6] || header[7]))
		emit(skb, asker, at);
	return 1;
}
