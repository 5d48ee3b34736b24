/*
 * Two lists of system calls. What is on neither ends the helper, which has little to do and is worth most; the engine is
 * told that the kernel has no such call, as libraries that only try a newer one then go on with an older. Calls that no
 * honest engine makes end it as well.
 *
 * A filter program goes through the list from the top, and the kernel keeps the verdicts that depend on no argument.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privsep/confine.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#else
#error "the audit architecture of this machine is to be named here, and its filters tried"
#endif

#define ALLOW SECCOMP_RET_ALLOW
#define KILL SECCOMP_RET_KILL_PROCESS
#define FAIL(error) (SECCOMP_RET_ERRNO | (error))

struct rule {
    uint32_t number;
    uint32_t verdict;
    /* The rule holds if these bits of that argument, of which the kernel looks at 32, have this value. */
    uint8_t argument;
    uint32_t mask, value;
};

#define ANY(name)                                                                                  \
    {                                                                                              \
        .number = SYS_##name, .verdict = ALLOW                                                     \
    }
#define IF(name, argument_index, argument_mask, argument_value)                                    \
    {                                                                                              \
        .number = SYS_##name, .verdict = ALLOW, .argument = (argument_index),                      \
        .mask = (uint32_t) (argument_mask), .value = (uint32_t) (argument_value)                   \
    }
#define NEVER(name, with)                                                                          \
    {                                                                                              \
        .number = SYS_##name, .verdict = (with)                                                    \
    }

#define OPENS_FOR_MORE (O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

/* What memory, time, threads that are there, and an orderly end take; files that are open, and sockets. */
#define COMMON_RULES                                                                               \
    ANY(read), ANY(write), ANY(writev), ANY(close), ANY(lseek), ANY(futex), ANY(munmap),           \
        ANY(mremap), ANY(madvise), ANY(brk), IF(mmap, 2, PROT_EXEC, 0),                            \
        IF(mprotect, 2, PROT_EXEC, 0), ANY(sysinfo), ANY(sched_getaffinity), ANY(fstat),           \
        ANY(newfstatat), ANY(statx), ANY(readlinkat), ANY(faccessat), ANY(clock_gettime),          \
        ANY(clock_nanosleep), ANY(nanosleep), ANY(gettimeofday), ANY(getpid), ANY(gettid),         \
        ANY(getppid), ANY(getrandom), ANY(ppoll), ANY(recvfrom), ANY(recvmsg), ANY(sendto),        \
        ANY(sendmsg), ANY(bind), ANY(getsockname), ANY(getsockopt), ANY(setsockopt),               \
        ANY(shutdown), ANY(rt_sigreturn), ANY(rt_sigprocmask), ANY(rt_sigaction), ANY(exit),       \
        ANY(exit_group), ANY(restart_syscall), ANY(sched_yield), ANY(tgkill)

#ifdef SYS_poll
#define COMMON_OLD_RULES ANY(poll), ANY(stat), ANY(lstat), ANY(readlink), ANY(access)
#define ENGINE_OLD_RULES ANY(epoll_wait), ANY(time), ANY(unlink), ANY(select), ANY(open)
#else
#define COMMON_OLD_RULES ANY(epoll_pwait)
#define ENGINE_OLD_RULES ANY(epoll_pwait)
#endif

static const struct rule helper_rules[] = {
    COMMON_RULES,
    COMMON_OLD_RULES,
    IF(socket, 0, UINT32_MAX, AF_NETLINK),
    IF(openat, 2, OPENS_FOR_MORE, O_RDONLY),
    NEVER(ioctl, FAIL(ENOTTY)), /* a parser asks whether its file is a terminal */
    NEVER(statfs, FAIL(ENOSYS)),
};

static const struct rule engine_rules[] = {
    ANY(epoll_pwait),
    ENGINE_OLD_RULES,
    ANY(recvmmsg),
    ANY(sendmmsg),
    COMMON_RULES,
    COMMON_OLD_RULES,
    ANY(openat), /* what is its own user's is its to write: the store is opened anew after a full disk */
    ANY(epoll_ctl),
    ANY(epoll_create1),
    ANY(eventfd2),
    ANY(readv),
    ANY(pread64),
    ANY(pwrite64),
    ANY(preadv),
    ANY(pwritev),
    ANY(pwritev2),
    ANY(fsync),
    ANY(fdatasync),
    ANY(msync),
    ANY(ftruncate),
    ANY(fallocate),
    ANY(flock),
    ANY(fcntl),
    ANY(ioctl),
    ANY(dup),
    ANY(dup3),
    ANY(pipe2),
    ANY(accept),
    ANY(accept4),
    ANY(listen),
    ANY(getpeername),
    IF(socket, 0, UINT32_MAX, AF_UNIX),
    IF(socket, 0, UINT32_MAX, AF_INET),
    IF(socket, 0, UINT32_MAX, AF_INET6),
    IF(socket, 0, UINT32_MAX, AF_NETLINK),
    ANY(unlinkat),
    ANY(statfs),
    ANY(fstatfs),
    ANY(getdents64),
    ANY(getuid),
    ANY(geteuid),
    ANY(getgid),
    ANY(getegid),
    ANY(uname),
    ANY(prlimit64),
    ANY(clock_getres),
    ANY(timerfd_create),
    ANY(timerfd_settime),
    ANY(sigaltstack),
    ANY(set_robust_list),
    ANY(rseq),
    ANY(membarrier),
    ANY(wait4),
    ANY(pselect6),
    IF(prctl, 0, UINT32_MAX, PR_SET_NAME),
    IF(clone, 0, CLONE_THREAD, CLONE_THREAD),
    NEVER(execve, KILL),
    NEVER(execveat, KILL),
    NEVER(ptrace, KILL),
    NEVER(process_vm_writev, KILL),
    NEVER(process_vm_readv, KILL),
    NEVER(unshare, KILL),
    NEVER(setns, KILL),
    NEVER(mount, KILL),
    NEVER(bpf, KILL),
    NEVER(keyctl, KILL),
    NEVER(init_module, KILL),
    NEVER(finit_module, KILL),
};

#define INSTRUCTIONS_PER_RULE 6
#define PROGRAM_SIZE (INSTRUCTIONS_PER_RULE * N_ELEMENTS(engine_rules) + 8)
static_assert(N_ELEMENTS(helper_rules) <= N_ELEMENTS(engine_rules), "both programs have room");

struct program {
    struct sock_filter code[PROGRAM_SIZE];
    size_t length;
};

static void put(struct program *program, struct sock_filter instruction)
{
    assert(program->length < PROGRAM_SIZE);
    program->code[program->length++] = instruction;
}

static void put_load(struct program *program, size_t offset)
{
    put(program, (struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t) offset));
}

static void put_verdict(struct program *program, uint32_t verdict)
{
    put(program, (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, verdict));
}

/* The low half of an argument, as all our machines have that first. */
static size_t argument_offset(uint8_t argument)
{
    return offsetof(struct seccomp_data, args) + argument * sizeof(uint64_t);
}

/* The number is loaded, and is again at the end. */
static void put_rule(struct program *program, const struct rule *rule)
{
    bool is_conditional = rule->mask != 0;
    put(program, (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->number, 0,
                                               is_conditional ? 5 : 1));
    if (is_conditional) {
        put_load(program, argument_offset(rule->argument));
        put(program, (struct sock_filter) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule->mask));
        put(program, (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->value, 0, 1));
    }
    put_verdict(program, rule->verdict);
    if (is_conditional)
        put_load(program, offsetof(struct seccomp_data, nr));
}

static int install(const struct rule *rules, size_t n_rules, uint32_t otherwise)
{
    struct program program = {.length = 0};
    put_load(&program, offsetof(struct seccomp_data, arch));
    put(&program, (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0));
    put_verdict(&program, KILL);
    put_load(&program, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < n_rules; i++)
        put_rule(&program, &rules[i]);
    put_verdict(&program, otherwise);

    struct sock_fprog filter = {.len = (unsigned short) program.length, .filter = program.code};
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    if (r > 0)
        return -ECANCELED; /* a thread has a filter of its own */
    return r < 0 ? -errno : 0;
}

int confine_helper_calls(void)
{
    return CONFINE_SYSTEM_CALLS ? install(helper_rules, N_ELEMENTS(helper_rules), KILL) : 0;
}

int privsep_confine_calls(void)
{
    return CONFINE_SYSTEM_CALLS ? install(engine_rules, N_ELEMENTS(engine_rules), FAIL(ENOSYS)) : 0;
}
