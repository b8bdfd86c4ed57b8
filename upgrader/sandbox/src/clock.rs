//! Whether `clock_gettime` is answered by the vDSO (vdso(7)), so that a closed worker can read the time.

/// Clock sources whose vDSO mode is not `VDSO_CLOCKMODE_NONE`: `arch/x86/kernel/{tsc,kvmclock}.c`,
/// `drivers/clocksource/{hyperv_timer,arm_arch_timer}.c`.
const READ_IN_USER_SPACE: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// No where it can't be found out. If the kernel changes its source later, the next look at the clock kills the worker,
/// and its successor finds out anew.
pub fn is_read_without_system_call() -> bool {
    std::fs::read_to_string(CURRENT).is_ok_and(|name| READ_IN_USER_SPACE.contains(&name.trim()))
}
