// SPDX-License-Identifier: Apache-2.0
/*
 * Processes that come and go, so that a watched program is followed into its
 * children, a new one is known within a millisecond, and one that ends before
 * anybody looks at it has left its file, arguments and cgroup.
 *
 * Hooks: BTF tracepoints of the scheduler (since 5.5). Threads are not reported,
 * nor are children that borrow their parent's memory until they execute (vfork).
 */
#include "common.h"

/* Keep the types in the type information, for the test of their layout. */
struct process_record *process_record_type __attribute__((unused));
struct program *program_type __attribute__((unused));

#define MAX_LEVELS 8 /* names of a cgroup path that are kept; a pod's container has 4 */
#define MAX_NAME 128 /* of one cgroup; `cri-containerd-<64 digits>.scope` has 85 */

struct execution {
	struct process_record record;
	struct program program;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} processes SEC(".maps");

/* Not 0 while somebody is to be watched: then the reader is woken for every record. Else it reads
 * once a second, or when it is woken for something else, and at the latest when a quarter of the
 * ring is full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} eager SEC(".maps");

#define MAX_UNREAD (256 * 1024)

/* Where an execution is put together; a tracepoint is never preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct execution);
} scratch SEC(".maps");

static __always_inline u64 wakeup(void)
{
	u32 zero = 0;
	u32 *is_eager = bpf_map_lookup_elem(&eager, &zero);

	/* Never the kernel's own choice: it wakes a reader only that has read all before. */
	if (!is_eager || *is_eager)
		return BPF_RB_FORCE_WAKEUP;
	return bpf_ringbuf_query(&processes, BPF_RB_AVAIL_DATA) < MAX_UNREAD ? BPF_RB_NO_WAKEUP :
									       BPF_RB_FORCE_WAKEUP;
}

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
	record->at = bpf_ktime_get_ns();
	describe_caller(&record->caller, pid, task, parent);
	record->kind = kind;
	record->unused = 0;
	bpf_ringbuf_submit(record, wakeup());
}

/* The cgroup that names a task: in v2 where it is used, else that of a v1 controller. */
static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup *cgroup = BPF_CORE_READ(set, dfl_cgrp);
	struct cgroup_subsys_state *state = NULL;
	u32 index;

	if (BPF_CORE_READ(cgroup, level) > 0)
		return cgroup;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		index = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
	else if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		index = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	else
		return cgroup;

	void *states = (void *)set + bpf_core_field_offset(struct css_set, subsys);

	bpf_probe_read_kernel(&state, sizeof(state), states + index * sizeof(state));
	return state ? BPF_CORE_READ(state, cgroup) : cgroup;
}

static __always_inline void read_cgroup(struct program *program, struct task_struct *task)
{
	struct cgroup *cgroup = cgroup_of(task);
	u32 at = 0;

	for (u32 i = 0; i < MAX_LEVELS; i++) {
		if (BPF_CORE_READ(cgroup, level) <= 0 || at > MAX_CGROUP - MAX_NAME)
			break;

		long len = bpf_probe_read_kernel_str(program->cgroup + at, MAX_NAME,
						     BPF_CORE_READ(cgroup, kn, name));

		if (len <= 0 || len > MAX_NAME)
			break;
		at += len;
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	program->cgroup_len = at;
}

static __always_inline u32 read_arguments(struct program *program, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	u64 start = BPF_CORE_READ(mm, arg_start);
	u64 len = BPF_CORE_READ(mm, arg_end) - start;

	if (len > MAX_ARGUMENTS)
		len = MAX_ARGUMENTS;
	if (bpf_probe_read_user(program->arguments, len, (const void *)start))
		len = 0;
	return len;
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
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *binary)
{
	u32 zero = 0;
	struct execution *execution = bpf_map_lookup_elem(&scratch, &zero);
	u32 pid = pid_of(task);

	if (!execution || !pid)
		return 0;

	struct program *program = &execution->program;
	const char *file = BPF_CORE_READ(binary, interp);

	if (bpf_probe_read_kernel_str(program->file, MAX_FILE, file) <= 0)
		program->file[0] = 0;
	execution->record.at = bpf_ktime_get_ns();
	describe_caller(&execution->record.caller, pid, task, BPF_CORE_READ(task, real_parent));
	execution->record.kind = PROCESS_EXECUTED;
	execution->record.unused = 0;
	read_cgroup(program, task);

	u64 arguments_len = read_arguments(program, task);

	if (arguments_len > MAX_ARGUMENTS)
		return 0;
	program->arguments_len = arguments_len;
	if (bpf_ringbuf_output(&processes, execution,
			       sizeof(*execution) - MAX_ARGUMENTS + arguments_len, wakeup()))
		count_lost(LOST_RECORDS, 1);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		emit(PROCESS_EXITED, task, BPF_CORE_READ(task, real_parent));
	return 0;
}
