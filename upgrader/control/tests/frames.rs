//! Frames and their descriptors over a real socket pair.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use jfe_control::frame::{MAX_DESCRIPTORS, MAX_LENGTH};
use jfe_control::{Frame, FrameError, Link};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

fn pair() -> (Link, Link) {
    let (left, right) = UnixStream::pair().unwrap();
    (Link::new(left.into()), Link::new(right.into()))
}

/// A raw sender and the link that reads it.
fn raw() -> (UnixStream, Link) {
    let (left, right) = UnixStream::pair().unwrap();
    (left, Link::new(right.into()))
}

/// `count` descriptors of one file that no other test has.
fn descriptors(count: usize) -> (Vec<OwnedFd>, u64) {
    let memory = rustix::fs::memfd_create("descriptor", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let inode = inode(&memory);
    ((0..count).map(|_| memory.try_clone().unwrap()).collect(), inode)
}

fn shared(descriptors: Vec<OwnedFd>) -> Vec<Arc<OwnedFd>> {
    descriptors.into_iter().map(Arc::new).collect()
}

fn inode(descriptor: &impl AsFd) -> u64 {
    rustix::fs::fstat(descriptor).unwrap().st_ino
}

fn send_with(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let sent = sendmsg(socket, &[std::io::IoSlice::new(bytes)], &mut ancillary, SendFlags::empty()).unwrap();
    assert_eq!(sent, bytes.len());
}

fn next(link: &mut Link) -> Frame {
    link.receive().unwrap().unwrap()
}

fn open_descriptors_of(wanted: u64) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter(|entry| {
            std::fs::metadata(entry.as_ref().unwrap().path())
                .is_ok_and(|found| std::os::unix::fs::MetadataExt::ino(&found) == wanted)
        })
        .count()
}

#[test]
fn descriptors_of_many_frames_back_to_back_stay_with_their_frames() {
    let (mut left, mut right) = pair();
    let mut expected = Vec::new();
    for number in 0..40_usize {
        let (sent, inode) = descriptors(number * 7 % (MAX_DESCRIPTORS + 1));
        expected.push((sent.len(), inode));
        left.send(&"x".repeat(number * number * 3), shared(sent)).unwrap();
    }
    assert!(left.queued_bytes() > 0);
    let mut received = Vec::new();
    while received.len() < expected.len() {
        left.flush().unwrap();
        while let Some(frame) = right.receive().unwrap() {
            received.push(frame);
        }
    }
    assert_eq!(left.queued_bytes(), 0);
    for (number, (frame, (count, of))) in received.iter().zip(&expected).enumerate() {
        assert_eq!(frame.parse::<String>().unwrap().len(), number * number * 3);
        assert_eq!(frame.descriptors.len(), *count);
        assert!(frame.descriptors.iter().all(|descriptor| inode(descriptor) == *of));
        assert!(!frame.descriptors_lost);
    }
}

#[test]
fn received_descriptors_are_closed_on_exec() {
    let (mut left, mut right) = pair();
    left.send(&1, shared(descriptors(1).0)).unwrap();
    assert!(left.flush().unwrap());
    let frame = next(&mut right);
    assert!(rustix::io::fcntl_getfd(&frame.descriptors[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_frame_larger_than_the_socket_holds_arrives_whole() {
    let (mut left, mut right) = pair();
    left.send(&"y".repeat(3_000_000), shared(descriptors(3).0)).unwrap();
    assert!(!left.flush().unwrap());
    let frame = loop {
        if let Some(frame) = right.receive().unwrap() {
            break frame;
        }
        left.flush().unwrap();
    };
    assert_eq!((frame.body.len(), frame.descriptors.len()), (3_000_002, 3));
}

#[test]
fn one_byte_a_time_makes_the_same_frames() {
    let (mut raw, mut link) = raw();
    let (sent, of) = descriptors(2);
    let bytes = [&[0, 0, 0, 2][..], b"17", &[0, 0, 0, 1], b"8"].concat();
    let mut frames = Vec::new();
    for (position, byte) in bytes.iter().enumerate() {
        if position == 6 {
            send_with(&raw, &[*byte], &sent);
        } else {
            raw.write_all(&[*byte]).unwrap();
        }
        frames.extend(link.receive().unwrap());
    }
    let numbers: Vec<u8> = frames.iter().map(|frame| frame.parse().unwrap()).collect();
    assert_eq!(numbers, [17, 8]);
    assert!(frames[0].descriptors.is_empty());
    assert_eq!(frames[1].descriptors.iter().map(inode).collect::<Vec<_>>(), [of, of]);
}

#[test]
fn two_frames_in_one_message_leave_its_descriptors_with_the_first() {
    let (raw, mut link) = raw();
    send_with(&raw, b"\0\0\0\x011\0\0\0\x012", &descriptors(1).0);
    assert_eq!(next(&mut link).descriptors.len(), 1);
    assert_eq!(next(&mut link).descriptors.len(), 0);
}

#[test]
fn a_length_beyond_the_bound_is_an_error_before_its_bytes_come() {
    let (mut raw, mut link) = raw();
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(link.receive(), Err(FrameError::TooLong(length)) if length > MAX_LENGTH));
}

#[test]
fn truncated_json_is_malformed_and_the_next_frame_is_read() {
    let (mut raw, mut link) = raw();
    raw.write_all(b"\0\0\0\x05[1,2,\0\0\0\x0212\0\0\0\0").unwrap();
    assert!(matches!(next(&mut link).parse::<Vec<u8>>(), Err(FrameError::Malformed(_))));
    assert_eq!(next(&mut link).parse::<u8>().unwrap(), 12);
    assert!(matches!(next(&mut link).parse::<u8>(), Err(FrameError::Malformed(_))));
    assert!(link.receive().unwrap().is_none());
}

#[test]
fn descriptors_that_nobody_takes_are_closed() {
    let (raw, mut link) = raw();
    let (sent, of) = descriptors(5);
    send_with(&raw, b"\0\0\0\x011", &sent);
    drop(sent);
    let frame = next(&mut link);
    assert_eq!(open_descriptors_of(of), 5);
    drop(frame);
    assert_eq!(open_descriptors_of(of), 0);
    let (sent, of) = descriptors(5);
    send_with(&raw, b"\0\0\0\x01", &sent);
    drop(sent);
    assert!(link.receive().unwrap().is_none());
    drop(link);
    assert_eq!(open_descriptors_of(of), 0);
}

#[test]
fn more_descriptors_than_allowed_are_an_error_on_either_side() {
    let (raw, mut link) = raw();
    let (sent, of) = descriptors(MAX_DESCRIPTORS + 1);
    send_with(&raw, b"\0\0\0\x011", &sent);
    assert!(matches!(link.send(&1, shared(sent)), Err(FrameError::TooManyDescriptors(65))));
    assert!(matches!(link.receive(), Err(FrameError::TooManyDescriptors(65))));
    drop(link);
    assert_eq!(open_descriptors_of(of), 0);
}

#[test]
fn descriptors_within_a_frame_are_an_error() {
    let (mut raw, mut link) = raw();
    raw.write_all(b"\0\0").unwrap();
    assert!(link.receive().unwrap().is_none());
    send_with(&raw, b"\0\x011", &descriptors(1).0);
    assert!(matches!(link.receive(), Err(FrameError::MisplacedDescriptors)));
}

#[test]
fn the_end_is_told_from_an_end_within_a_frame() {
    let (mut left, mut link) = raw();
    left.write_all(b"\0\0\0\x011\0").unwrap();
    drop(left);
    assert_eq!(next(&mut link).parse::<u8>().unwrap(), 1);
    assert!(matches!(link.receive(), Err(FrameError::ClosedWithinFrame)));
    let (left, mut link) = raw();
    drop(left);
    assert!(matches!(link.receive(), Err(FrameError::Closed)));
    link.send(&1, Vec::new()).unwrap();
    assert_eq!(link.flush().unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}
