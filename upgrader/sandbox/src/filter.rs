//! The system calls that are left.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::SandboxError;

#[cfg(target_arch = "x86_64")]
const EPOLL_WAIT: i64 = libc::SYS_epoll_wait;
// There is no epoll_wait on newer architectures; the C library uses this one for it.
#[cfg(not(target_arch = "x86_64"))]
const EPOLL_WAIT: i64 = libc::SYS_epoll_pwait;

/// Allowed with any argument: eleven.
const ALLOWED: [i64; 11] = [
    EPOLL_WAIT,
    libc::SYS_epoll_ctl,
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_getsockname,
    libc::SYS_getrandom,
];

/// The twelfth, `getsockopt`, only for these (level, option): the destination before NAT
/// (`include/uapi/linux/netfilter_ipv4.h`, `include/uapi/linux/netfilter_ipv6/ip6_tables.h`), how a connect ended, and how
/// many segments a connection has carried.
const OPTIONS: [(i32, i32); 4] = [
    (libc::SOL_IP, libc::SO_ORIGINAL_DST),
    (libc::SOL_IPV6, libc::IP6T_SO_ORIGINAL_DST),
    (libc::SOL_SOCKET, libc::SO_ERROR),
    (libc::SOL_TCP, libc::TCP_INFO),
];

/// The thirteenth, `futex`, only to wake whoever waits in this process: glibc's `pthread_once` does so each time that a
/// part of the cryptographic library is used for the first time, though nobody can be waiting.
const FUTEX_WAKE_PRIVATE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

pub fn program(clock_by_system_call: bool) -> Result<BpfProgram, SandboxError> {
    build(clock_by_system_call).map_err(|error| SandboxError::Filter(error.into()))
}

fn build(clock_by_system_call: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    let option = |(level, name)| SeccompRule::new(vec![argument(1, level)?, argument(2, name)?]);
    rules.insert(libc::SYS_getsockopt, OPTIONS.into_iter().map(option).collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_futex, vec![SeccompRule::new(vec![argument(1, FUTEX_WAKE_PRIVATE)?])?]);
    if clock_by_system_call {
        rules.insert(libc::SYS_clock_gettime, Vec::new());
    }
    if cfg!(debug_assertions) {
        // Unoptimised builds of the standard library's OwnedFd look whether a descriptor is open before they close it.
        rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![argument(1, libc::F_GETFD)?])?]);
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?.try_into()
}

fn argument(index: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value.unsigned_abs()))
}
