//! A stream of frames over a Unix socket, by `sendmsg` and `recvmsg` alone: a worker's sandbox has nothing else.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;

use super::{Decoder, Frame, FrameError, MAX_DESCRIPTORS, encode};

/// Bytes read at once: on the stack, and most frames are smaller.
const READ: usize = 16 << 10;

/// Room for all descriptors that one message of the kernel can hold, so that too many are told from too few numbers.
const ROOM: usize = 253;

/// Both ends of a link are never blocked by it: what does not go at once is queued, what is not there is `None`.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    decoder: Decoder,
    descriptors: Vec<OwnedFd>,
    descriptors_lost: bool,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Let go as soon as they are on their way.
    descriptors: Vec<Arc<OwnedFd>>,
}

impl Link {
    /// `socket`: a connected Unix stream socket, blocking or not.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            decoder: Decoder::default(),
            descriptors: Vec::new(),
            descriptors_lost: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    /// Bytes that [`flush`](Self::flush) has still to write.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Descriptors that wait with them, and are open here until then.
    pub fn queued_descriptors(&self) -> usize {
        self.queue.iter().map(|frame| frame.descriptors.len()).sum()
    }

    /// Queues one frame; [`flush`](Self::flush) sends it. Descriptors are shared, so that one that its owner keeps needs
    /// no second number meanwhile. An error leaves the link as it was.
    pub fn send<T: Serialize + ?Sized>(
        &mut self,
        message: &T,
        descriptors: Vec<Arc<OwnedFd>>,
    ) -> Result<(), FrameError> {
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(FrameError::TooManyDescriptors(descriptors.len()));
        }
        let bytes = encode(message)?;
        self.queued_bytes += bytes.len();
        self.queue.push_back(Outgoing { bytes, sent: 0, descriptors });
        Ok(())
    }

    /// Writes as much as goes now; true when nothing is left. An error is the end of the link.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(frame) = self.queue.front_mut() {
            match send_part(self.socket.as_fd(), frame) {
                Ok(sent) => {
                    frame.sent += sent;
                    frame.descriptors.clear();
                    self.queued_bytes -= sent;
                    if frame.sent == frame.bytes.len() {
                        self.queue.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The next whole frame, or `None` when the rest of it has not arrived.
    pub fn receive(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut buffer = [0; READ];
        loop {
            let first = self.decoder.between_frames();
            let wanted = self.decoder.wanted().min(READ);
            let held = self.descriptors.len();
            let read = match self.receive_part(&mut buffer[..wanted]) {
                Ok(message) => message.bytes,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) => return Err(FrameError::Closed),
                Err(error) => return Err(FrameError::System(error.into())),
            };
            if read == 0 {
                return Err(if first { FrameError::Closed } else { FrameError::ClosedWithinFrame });
            }
            if self.descriptors.len() > held && !first {
                return Err(FrameError::MisplacedDescriptors);
            }
            if self.descriptors.len() > MAX_DESCRIPTORS {
                return Err(FrameError::TooManyDescriptors(self.descriptors.len()));
            }
            if let (_, Some(body)) = self.decoder.take(&buffer[..read])? {
                return Ok(Some(Frame {
                    body,
                    descriptors: std::mem::take(&mut self.descriptors),
                    descriptors_lost: std::mem::take(&mut self.descriptors_lost),
                }));
            }
        }
    }

    fn receive_part(&mut self, buffer: &mut [u8]) -> Result<RecvMsg, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                self.descriptors.extend(descriptors);
            }
        }
        self.descriptors_lost |= message.flags.contains(ReturnFlags::CTRUNC);
        Ok(message)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One frame a message: the kernel ends a read behind bytes that carry descriptors, never within a message.
fn send_part(socket: BorrowedFd<'_>, frame: &Outgoing) -> Result<usize, Errno> {
    let borrowed: Vec<BorrowedFd<'_>> = frame.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::TOOMANYREFS);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&frame.bytes[frame.sent..])], &mut ancillary, flags)
}
