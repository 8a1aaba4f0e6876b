// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that come and go, so that a watched program is followed into its
 * children and a new one is known within a millisecond.
 *
 * Hooks: BTF tracepoints of the scheduler (since 5.5). Threads are not reported,
 * nor are children that borrow their parent's memory until they execute (vfork).
 */
#include "common.h"

/* Keeps the record's type in the type information, for the test of its layout. */
struct process_record *process_record_type __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} processes SEC(".maps");

static __always_inline void emit(u32 kind, struct task_struct *task, struct task_struct *parent)
{
	u32 pid = pid_of(task);

	if (!pid)
		return;

	struct process_record *record = bpf_ringbuf_reserve(&processes, sizeof(*record), 0);

	if (!record) {
		count_lost(LOST_RECORDS, 1);
		return;
	}
	record->kind = kind;
	record->pid = pid;
	record->at = bpf_ktime_get_ns();
	record->start_time = start_time_of(task);
	record->parent_start_time = start_time_of(parent);
	record->parent_pid = pid_of(parent);
	record->unused = 0;
	bpf_ringbuf_submit(record, 0);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	if (BPF_CORE_READ(parent, tgid) == BPF_CORE_READ(child, tgid))
		return 0;
	if (BPF_CORE_READ(parent, mm) == BPF_CORE_READ(child, mm))
		return 0;
	emit(PROCESS_FORKED, child, parent);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
	emit(PROCESS_EXECUTED, task, BPF_CORE_READ(task, real_parent));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		emit(PROCESS_EXITED, task, BPF_CORE_READ(task, real_parent));
	return 0;
}
