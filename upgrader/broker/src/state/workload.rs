use jfe_control::message::{Failure, FailureKind, Listeners, Workload};

/// Characters of a workload's id.
const LONGEST_ID: usize = 64;

/// A workload that has listeners.
#[derive(Debug)]
pub(super) struct Held {
    /// As all workers have it; none while it is new.
    pub settled: Option<Workload>,
    pub listeners: Listeners,
    pub pending: Option<Pending>,
}

impl Held {
    pub fn newest(&self) -> Option<&Workload> {
        self.pending.as_ref().map(|pending| &pending.workload).or(self.settled.as_ref())
    }
}

/// A form that not all workers have confirmed.
#[derive(Debug)]
pub(super) struct Pending {
    pub workload: Workload,
    /// None: the agent that asked is gone.
    pub seq: Option<u64>,
    pub refused: Option<Failure>,
    /// Workers that ended meanwhile.
    pub deaths: u8,
}

impl Pending {
    pub fn new(seq: u64, workload: Workload) -> Self {
        Self { workload, seq: Some(seq), refused: None, deaths: 0 }
    }
}

/// What can be known to be wrong before anything is opened.
pub fn check(workload: &Workload) -> Result<(), Failure> {
    let bad = |message: String| Err(Failure { kind: FailureKind::BadRequest, message });
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if workload.id.is_empty() || workload.id.len() > LONGEST_ID || !workload.id.bytes().all(allowed) {
        return bad(format!("a workload's id has 1 to {LONGEST_ID} characters of a-z, 0-9 and -"));
    }
    if workload.mark.count_ones() != 1 {
        return bad(format!("mark {:#x} is not one bit; give one, as 0x00400000", workload.mark));
    }
    if !workload.identity.id.starts_with("spiffe://") {
        return bad("an identity's id begins with spiffe://".into());
    }
    Ok(())
}
