//! The system calls that rustix does not wrap: those of loop devices. All of this crate's `unsafe` is here.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

// linux/loop.h
const GET_FREE: libc::c_ulong = 0x4C82;
const CONFIGURE: libc::c_ulong = 0x4C0A;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;

/// `struct loop_info64`, linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device over a part of a file. It goes when nobody mounts it or holds the descriptor any more.
pub(crate) fn loop_device(
    file: &File,
    offset: u64,
    length: u64,
    read_only: bool,
) -> io::Result<(PathBuf, OwnedFd)> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let mut flags = AUTOCLEAR;
    if read_only {
        flags |= READ_ONLY;
    }
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    // somebody else may take the free one first
    for _ in 0..32 {
        // SAFETY: takes and writes no memory; returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(&path)?;
        // SAFETY: the structure is plain numbers, all of which may be zero.
        let mut config: Config = unsafe { std::mem::zeroed() };
        config.fd = file.as_raw_fd().cast_unsigned();
        config.info.offset = offset;
        config.info.size_limit = length;
        config.info.flags = flags;
        // SAFETY: the structure is laid out as the kernel's and lives across the call, which only reads it.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &config as *const Config) };
        if done == 0 {
            return Ok((path, device.into()));
        }
        last = io::Error::last_os_error();
        if last.raw_os_error() != Some(libc::EBUSY) {
            return Err(last);
        }
    }
    Err(last)
}
