//! What a worker gives up before it meets the bytes.
