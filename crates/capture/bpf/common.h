/* SPDX-License-Identifier: Apache-2.0 */
/* What every object has: the count of losses, and the identity of a task. */
#ifndef SONDE_COMMON_H
#define SONDE_COMMON_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "events.h"

char LICENSE[] SEC("license") = "GPL";

/* The pid namespace of the reader; set before the object is loaded. */
const volatile u32 reader_namespace = 0;

#define ROOT_PID_NAMESPACE 0xEFFFFFFCU /* PROC_PID_INIT_INO */
#define PIDTYPE_TGID 1
#define MAX_NAMESPACE_DEPTH 8 /* the kernel nests at most 32; real machines 2 or 3 */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSSES);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");

static __always_inline void count_lost(u32 reason, u64 amount)
{
	u64 *count = bpf_map_lookup_elem(&lost, &reason);

	if (count)
		*count += amount;
}

static __always_inline u64 start_time_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

/* The pid of a task's process as the reader counts, or 0 when the reader cannot see it. */
static __always_inline u32 pid_of(struct task_struct *task)
{
	if (reader_namespace == ROOT_PID_NAMESPACE)
		return BPF_CORE_READ(task, tgid);

	struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	u32 deepest = BPF_CORE_READ(pid, level);
	void *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);

	for (u32 level = 0; level < MAX_NAMESPACE_DEPTH; level++) {
		if (level > deepest)
			break;
		struct upid *number = numbers + level * bpf_core_type_size(struct upid);

		if (BPF_CORE_READ(number, ns, ns.inum) == reader_namespace)
			return BPF_CORE_READ(number, nr);
	}
	return 0;
}

static __always_inline void describe_caller(struct caller *caller, u32 pid,
					    struct task_struct *task, struct task_struct *parent)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	caller->start_time = BPF_CORE_READ(leader, start_boottime);
	caller->parent_start_time = start_time_of(parent);
	caller->pid = pid;
	caller->parent_pid = pid_of(parent);
	caller->user = BPF_CORE_READ(task, cred, uid.val);
	caller->unused = 0;
	bpf_core_read(caller->name, sizeof(caller->name), &leader->comm);
}

#endif
