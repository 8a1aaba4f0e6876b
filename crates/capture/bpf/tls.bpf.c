// SPDX-License-Identifier: Apache-2.0
/*
 * The plaintext at OpenSSL's own interface: what a program gives to SSL_write and
 * gets from SSL_read, taken when the call returns, because only then is it known
 * how many bytes passed, and a write that must be retried passes none.
 *
 * Hooks: uprobes and uretprobes, by links scoped to one process (perf since 4.17
 * with cookies since 5.15, multi links since 6.6). The attach cookie says which
 * function it is and which watch the link belongs to.
 */
#include "common.h"

enum operation {
	READ = 1, /* int f(ssl, buffer, len), returns the count */
	WRITE = 2,
	READ_EX = 3, /* int f(ssl, buffer, len, size_t *count), returns 1 */
	WRITE_EX = 4,
	WRITE_EX2 = 5, /* int f(ssl, buffer, len, flags, size_t *count), returns 1 */
	FREE = 6, /* f(ssl) */
	CONTROL = 7, /* f(ssl, command, …, name) */
	CLEAR = 8, /* f(ssl): ready for the next connection; a handshake begins with one, too */
};

#define SET_SERVER_NAME 55 /* SSL_CTRL_SET_TLSEXT_HOSTNAME */
#define MAX_NAME 256 /* a DNS name has at most 253 characters */
#define MAX_DEPTH 8 /* calls of TLS functions inside each other on one thread: TLS in TLS makes 2 */

/* Three sizes of record, so that a small write does not take the room of a big one. */
#define SMALL 256
#define MEDIUM 2048
#define LARGE 16384
#define MAX_CHUNKS 512 /* 8 MiB a call; the rest is counted as lost */

struct call {
	u64 object;
	u64 buffer;
	u64 count_at; /* where an _ex function leaves the count */
	u64 stack; /* stack pointer at entry */
	u32 operation;
	u32 nested; /* part of another call that will report the bytes */
};

struct calls {
	u32 depth;
	u32 unused;
	struct call stack[MAX_DEPTH];
};

struct connection_key {
	u64 object;
	u64 watch;
};

struct connection {
	u64 generation;
	u64 offset[2]; /* by direction */
	u64 ignored;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct calls);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

/* Connections that the reader wants no more of. The value is the generation. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct connection_key);
	__type(value, u64);
} ignored SEC(".maps");

/* How often the trial link fired; see on_trial. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} trials SEC(".maps");

/* One copied piece of a call, and where it goes. */
struct piece {
	struct tls_record record;
	u64 from;
	u64 left;
};

static __always_inline struct connection *connection_of(const struct connection_key *key)
{
	struct connection *connection = bpf_map_lookup_elem(&connections, key);

	if (connection)
		return connection;

	struct connection fresh = { .generation = bpf_ktime_get_ns() };

	bpf_map_update_elem(&connections, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&connections, key);
}

static __always_inline bool is_ignored(const struct connection_key *key,
				       struct connection *connection)
{
	if (connection->ignored)
		return true;

	u64 *generation = bpf_map_lookup_elem(&ignored, key);

	if (!generation || *generation != connection->generation)
		return false;
	connection->ignored = 1;
	return true;
}

static __always_inline void describe(struct tls_record *record, u32 kind,
				     const struct connection_key *key,
				     const struct connection *connection)
{
	record->kind = kind;
	record->watch = key->watch;
	record->at = bpf_ktime_get_ns();
	record->object = key->object;
	record->generation = connection->generation;
}

#define EMIT(size)                                                                         \
	do {                                                                               \
		struct tls_record *record =                                                \
			bpf_ringbuf_reserve(&records, sizeof(*record) + size, 0);          \
		if (!record) {                                                             \
			count_lost(LOST_RING_FULL, len);                                   \
			return;                                                            \
		}                                                                          \
		*record = piece->record;                                                   \
		if (bpf_probe_read_user(record + 1, len, (const void *)piece->from)) {     \
			count_lost(LOST_FAULT, len);                                       \
			bpf_ringbuf_discard(record, 0);                                    \
			return;                                                            \
		}                                                                          \
		bpf_ringbuf_submit(record, 0);                                             \
	} while (0)

static __always_inline void emit_piece(const struct piece *piece, u32 len)
{
	if (len <= SMALL)
		EMIT(SMALL);
	else if (len <= MEDIUM)
		EMIT(MEDIUM);
	else if (len <= LARGE)
		EMIT(LARGE);
}

/* Copies the next piece of a call and says how much is left. Not static: so the verifier
 * checks it once, and not for each round of the loop that calls it. */
__noinline u64 emit_next(struct piece *piece)
{
	if (!piece)
		return 0;

	u32 len = piece->left > LARGE ? LARGE : piece->left;

	piece->record.len = len;
	emit_piece(piece, len);
	piece->from += len;
	piece->record.offset += len;
	piece->left -= len;
	return piece->left;
}

static __always_inline void emit(struct piece *piece)
{
	for (u32 i = 0; i < MAX_CHUNKS; i++) {
		if (!emit_next(piece))
			return;
	}
	count_lost(LOST_TOO_LONG, piece->left);
}

static __always_inline u32 direction_of(u32 operation)
{
	return operation == READ || operation == READ_EX ? RECEIVED : SENT;
}

static __always_inline void on_end(const struct connection_key *key, u32 operation)
{
	struct connection *connection = bpf_map_lookup_elem(&connections, key);

	if (!connection)
		return;
	/* Nothing has passed: it is the clear before the handshake. */
	if (operation == CLEAR && !connection->offset[SENT] && !connection->offset[RECEIVED])
		return;

	struct tls_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (record) {
		describe(record, TLS_CLOSED, key, connection);
		record->offset = connection->offset[SENT];
		record->len = 0;
		record->direction = SENT;
		bpf_ringbuf_submit(record, 0);
	} else {
		count_lost(LOST_RECORDS, 1);
	}
	bpf_map_delete_elem(&connections, key);
}

static __always_inline void on_name(const struct connection_key *key, const void *name)
{
	struct connection *connection = connection_of(key);

	if (!connection) {
		count_lost(LOST_CONNECTIONS, 1);
		return;
	}

	struct tls_record *record = bpf_ringbuf_reserve(&records, sizeof(*record) + MAX_NAME, 0);

	if (!record) {
		count_lost(LOST_RECORDS, 1);
		return;
	}

	long len = bpf_probe_read_user_str(record + 1, MAX_NAME, name);

	if (len <= 1) {
		bpf_ringbuf_discard(record, 0);
		return;
	}
	describe(record, TLS_NAMED, key, connection);
	record->offset = 0;
	record->len = len - 1;
	record->direction = SENT;
	bpf_ringbuf_submit(record, 0);
}

/* Keeps the arguments until the call returns. */
static __always_inline void remember(struct pt_regs *ctx, u32 operation)
{
	struct calls *open = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0,
						  BPF_LOCAL_STORAGE_GET_F_CREATE);
	u64 stack = PT_REGS_SP(ctx);
	u64 object = PT_REGS_PARM1(ctx);
	u64 fourth = PT_REGS_PARM4(ctx);
	u64 fifth = PT_REGS_PARM5(ctx);
	u32 nested = 0;

	/* Read both here: the verifier refuses a load at an address chosen between two. */
	barrier_var(fourth);
	barrier_var(fifth);
	if (!open) {
		count_lost(LOST_CALLS, 1);
		return;
	}

	u32 depth = open->depth;

	/* A call further down the stack than this one never returned (longjmp, a thread
	 * that was unwound): forget it. The stack grows towards lower addresses. */
	for (u32 i = 0; i < MAX_DEPTH; i++) {
		u32 top = depth - 1;

		if (top >= MAX_DEPTH || open->stack[top].stack > stack)
			break;
		depth = top;
	}
	for (u32 i = 0; i < MAX_DEPTH; i++) {
		if (i < depth && open->stack[i].object == object &&
		    direction_of(open->stack[i].operation) == direction_of(operation))
			nested = 1;
	}
	if (depth >= MAX_DEPTH) {
		open->depth = depth;
		if (!nested)
			count_lost(LOST_CALLS, 1);
		return;
	}

	struct call *call = &open->stack[depth];

	call->object = object;
	call->buffer = PT_REGS_PARM2(ctx);
	call->count_at = operation == WRITE_EX2 ? fifth : fourth;
	call->stack = stack;
	call->operation = operation;
	call->nested = nested;
	open->depth = depth + 1;
}

static __always_inline int on_call(struct pt_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	u32 operation = cookie & 0xff;
	struct connection_key key = { .object = PT_REGS_PARM1(ctx), .watch = cookie >> 32 };

	if (operation == FREE || operation == CLEAR) {
		on_end(&key, operation);
		return 0;
	}
	if (operation == CONTROL) {
		if ((s32)PT_REGS_PARM2(ctx) == SET_SERVER_NAME)
			on_name(&key, (const void *)PT_REGS_PARM4(ctx));
		return 0;
	}

	struct connection *connection = bpf_map_lookup_elem(&connections, &key);

	if (!connection || !is_ignored(&key, connection))
		remember(ctx, operation);
	return 0;
}

/* How many bytes a call that returned passed; 0 when it did not. */
static __always_inline u64 passed(struct pt_regs *ctx, const struct call *call)
{
	s32 result = PT_REGS_RC(ctx);
	u64 count = 0;

	if (call->operation == READ || call->operation == WRITE)
		return result > 0 ? result : 0;
	if (result != 1)
		return 0;
	if (bpf_probe_read_user(&count, sizeof(count), (const void *)call->count_at)) {
		count_lost(LOST_CALLS, 1);
		return 0;
	}
	return count;
}

/* Takes the call that returns off the stack, with every call it left behind. */
static __always_inline bool recall(struct calls *open, u32 operation, struct call *call)
{
	u32 depth = open->depth;

	for (u32 i = 0; i < MAX_DEPTH; i++) {
		u32 top = depth - 1;

		if (top >= MAX_DEPTH)
			break;
		depth = top;
		if (open->stack[top].operation == operation) {
			*call = open->stack[top];
			open->depth = depth;
			return true;
		}
	}
	return false;
}

static __always_inline int on_return(struct pt_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	u32 operation = cookie & 0xff;
	struct calls *open = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), 0, 0);
	struct call call = {};

	if (!open || !recall(open, operation, &call) || call.nested)
		return 0;

	u64 count = passed(ctx, &call);

	if (!count)
		return 0;

	struct connection_key key = { .object = call.object, .watch = cookie >> 32 };
	struct connection *connection = connection_of(&key);
	u32 direction = direction_of(operation);

	if (!connection) {
		count_lost(LOST_CONNECTIONS, 1);
		return 0;
	}

	struct piece piece = { .from = call.buffer, .left = count };

	describe(&piece.record, TLS_DATA, &key, connection);
	piece.record.offset = connection->offset[direction];
	piece.record.direction = direction;
	connection->offset[direction] += count;
	emit(&piece);
	return 0;
}

SEC("uprobe.multi")
int on_tls_call(struct pt_regs *ctx)
{
	return on_call(ctx);
}

SEC("uretprobe.multi")
int on_tls_return(struct pt_regs *ctx)
{
	return on_return(ctx);
}

/* The same for kernels without multi links, or whose multi links miss threads. */
SEC("uprobe")
int on_tls_call_single(struct pt_regs *ctx)
{
	return on_call(ctx);
}

SEC("uretprobe")
int on_tls_return_single(struct pt_regs *ctx)
{
	return on_return(ctx);
}

/* Attached for a moment to a function of the controller itself, to see whether a
 * link scoped to a process covers all its threads (before 6.10, some do not). */
SEC("uprobe.multi")
int on_trial(struct pt_regs *ctx)
{
	u32 only = 0;
	u64 *count = bpf_map_lookup_elem(&trials, &only);

	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}
