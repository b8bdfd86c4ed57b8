//! User, capabilities, limits.

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Pid, Resource, Rlimit, Signal, Uid, getppid, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::{NOBODY, SandboxError, Step};

/// No process, file or dump of memory can be made, and no memory locked, even where the filter would let it.
const NONE_OF: [Resource; 4] = [Resource::Nproc, Resource::Fsize, Resource::Core, Resource::Memlock];

pub fn drop_all() -> Result<(), SandboxError> {
    set_limits().map_err(Step::SetLimits.refused())?;
    drop_bounding_set().map_err(Step::DropCapabilities.refused())?;
    become_nobody().map_err(Step::ChangeUser.refused())?;
    drop_capabilities().map_err(Step::DropCapabilities.refused())?;
    let left = capabilities(None).map_err(Step::DropCapabilities.refused())?;
    if (left.effective | left.permitted | left.inheritable).is_empty() {
        Ok(())
    } else {
        Err(SandboxError::StillPrivileged)
    }
}

/// The kernel forgets this when the user changes (prctl(2), `PR_SET_PDEATHSIG`), so it comes after.
pub fn die_with(parent: Option<Pid>) -> Result<(), SandboxError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Step::DieWithParent.refused())?;
    if getppid() == parent { Ok(()) } else { Err(SandboxError::ParentGone) }
}

/// Descriptors that this process may have open once the sandbox is closed: all that it is allowed.
pub fn descriptor_limit() -> u64 {
    // None: no limit but the kernel's own (fs.nr_open).
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

fn set_limits() -> Result<(), Errno> {
    for resource in NONE_OF {
        setrlimit(resource, Rlimit { current: Some(0), maximum: Some(0) })?;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
}

fn drop_bounding_set() -> Result<(), Errno> {
    // uid 0 shall mean nothing, and nothing of this be taken back: capabilities(7), "securebits".
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    clear_ambient_capability_set()?;
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            // Beyond the last that this kernel knows.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn become_nobody() -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn drop_capabilities() -> Result<(), Errno> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
