//! Compression: found by the first bytes when reading, chosen by the file's name when writing.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard, RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
}

impl Codec {
    /// By the end of a name: `.gz`, `.tgz`, `.xz`, `.txz`, `.zst`, `.bz2`; none for everything else.
    pub fn of_name(path: &Path) -> Self {
        let suffix = path
            .extension()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        Self::named(suffix).unwrap_or(Self::None)
    }

    /// By a word: `uncompressed`, `gzip`, `xz`, `zstd`, `bzip2`, or a suffix.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "uncompressed" | "none" => Some(Self::None),
            "gzip" | "gz" | "tgz" => Some(Self::Gzip),
            "xz" | "txz" => Some(Self::Xz),
            "zstd" | "zst" | "tzst" => Some(Self::Zstd),
            "bzip2" | "bz2" | "tbz2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// By the magic number a file begins with.
    fn of_bytes(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// What a possibly compressed stream holds.
///
/// # Errors
/// Its first bytes cannot be read, or a decompressor cannot begin. Errors in what follows come while reading.
pub(crate) fn reader<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = io::BufReader::with_capacity(256 << 10, source);
    let codec = Codec::of_bytes(source.fill_buf()?);
    Ok(match codec {
        Codec::None => Box::new(source),
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Codec::Xz => {
            // as much as the largest preset needs, and not what a crafted header asks for
            let stream = liblzma::stream::Stream::new_stream_decoder(
                256 << 20,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Codec::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
    })
}

/// A stream that compresses. It has to be told its end by [`Writer::finish`].
pub(crate) enum Writer<W: Write> {
    /// As it is.
    None(W),
    /// gzip.
    Gzip(flate2::write::GzEncoder<W>),
    /// xz.
    Xz(liblzma::write::XzEncoder<W>),
    /// Zstandard.
    Zstd(zstd::stream::write::Encoder<'static, W>),
    /// bzip2.
    Bzip2(bzip2::write::BzEncoder<W>),
}

impl<W: Write> Writer<W> {
    /// Compresses what is written, into `sink`.
    ///
    /// # Errors
    /// The compressor cannot begin.
    pub(crate) fn new(codec: Codec, sink: W) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None(sink),
            Codec::Gzip => Self::Gzip(flate2::write::GzEncoder::new(
                sink,
                flate2::Compression::default(),
            )),
            Codec::Xz => Self::Xz(liblzma::write::XzEncoder::new(sink, 6)),
            Codec::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(sink, 3)?),
            Codec::Bzip2 => Self::Bzip2(bzip2::write::BzEncoder::new(
                sink,
                bzip2::Compression::default(),
            )),
        })
    }

    /// Writes what is left, and gives the sink back.
    ///
    /// # Errors
    /// What the sink said.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(sink) => Ok(sink),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Bzip2(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(sink) => sink.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
            Self::Bzip2(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(sink) => sink.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::Bzip2(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_again_whatever_it_is_called() {
        let text = b"some words, some words, some words\n".repeat(1000);
        for word in ["none", "gz", "xz", "zst", "bz2"] {
            let mut writer = Writer::new(Codec::named(word).unwrap(), Vec::new()).unwrap();
            writer.write_all(&text).unwrap();
            let packed = writer.finish().unwrap();
            assert!(word == "none" || packed.len() < text.len() / 10, "{word}");
            let mut read = Vec::new();
            reader(packed.as_slice())
                .unwrap()
                .read_to_end(&mut read)
                .unwrap();
            assert_eq!(read, text, "{word}");
            // what is cut off is no shorter file
            if word != "none" {
                let cut = &packed[..packed.len() - 4];
                let cut = reader(cut).and_then(|mut r| r.read_to_end(&mut Vec::new()));
                assert!(cut.is_err(), "{word}");
            }
        }
    }

    #[test]
    fn names_tell_how_to_write() {
        assert_eq!(Codec::of_name(Path::new("a/web.tar.zst")), Codec::Zstd);
        assert_eq!(Codec::of_name(Path::new("web.tgz")), Codec::Gzip);
        assert_eq!(Codec::of_name(Path::new("web.raw")), Codec::None);
    }
}
