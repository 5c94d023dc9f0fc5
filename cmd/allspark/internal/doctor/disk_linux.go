package doctor

import (
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem returns the kind of file system that holds dir, and its room in bytes.
func fileSystem(dir string) (kind string, free, size uint64) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", 0, 0
	}
	return kindOf(int64(s.Type)), s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize)
}

// kindOf names the file systems that are worth a word, and the usual ones (statfs(2)).
func kindOf(magic int64) string {
	switch uint32(magic) {
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.RAMFS_MAGIC:
		return "ramfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "smb"
	case unix.CIFS_SUPER_MAGIC:
		return "cifs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	}
	return "another file system"
}

// toDisk writes what the file holds to disk.
func toDisk(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }
