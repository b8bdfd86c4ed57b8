use std::time::Duration;

/// Microseconds at this share (0 to 1) of the sorted values; `None` if there are none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn microseconds(sorted: &[Duration], share: f64) -> Option<f64> {
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).map(|time| time.as_secs_f64() * 1e6)
}
