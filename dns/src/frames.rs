//! Messages in a stream (RFC 1035 §4.2.2): two bytes of length, then the message; several of them, one after the other.

/// Collects what was read from a connection and cuts it into messages.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// More was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend(bytes);
    }

    /// The next whole message. Not an iterator: what it returns is valid until the next [`Frames::push`].
    pub fn next_message(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.taken..)?;
        let (&length, rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(length));
        let message = rest.get(..length)?;
        self.taken += 2 + length;
        Some(message)
    }

    /// Whether nothing is left of a message that has begun.
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// A message as it goes into a stream. What is longer than a length can say is cut off; nothing here writes such.
    pub fn frame(message: &[u8]) -> Vec<u8> {
        let message = &message[..message.len().min(usize::from(u16::MAX))];
        let length = message.len() as u16; // as just cut
        [&length.to_be_bytes(), message].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_however_they_were_cut() {
        let messages = [&b"one"[..], b"", &[7; 300]];
        let stream: Vec<u8> = messages.iter().flat_map(|m| Frames::frame(m)).collect();
        for size in [1, 2, 3, 5, 200, 1000] {
            let mut frames = Frames::default();
            let mut out: Vec<Vec<u8>> = Vec::new();
            for part in stream.chunks(size) {
                frames.push(part);
                while let Some(message) = frames.next_message() {
                    out.push(message.to_vec());
                }
            }
            assert_eq!(out, messages, "cut at {size}");
            assert!(frames.is_empty());
        }
    }
}
