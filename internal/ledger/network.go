package ledger

import "strings"

// networkMagic are file systems by the number that statfs(2) gives them.
var networkMagic = map[uint32]string{
	0x00006969: "nfs", 0x0000517b: "smb", 0xff534d42: "cifs", 0xfe534d42: "smb2", 0x5346414f: "afs", 0x00c36400: "ceph",
	0x01021997: "9p", 0x0bd00bd0: "lustre", 0x73757245: "coda", 0x47504653: "gpfs", 0x19830326: "beegfs",
}

// fuseMagic is all that statfs says of those that run in a process; their names stand in the list of mounts.
const fuseMagic = 0x65735546

// networkTypes are names of such in the list of mounts.
var networkTypes = []string{"sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "cephfs", "ceph", "davfs", "curlftpfs", "mount.s3", "smbnetfs", "juicefs", "blobfuse", "goofys"}

// networkType judges a file system's type in the list of mounts, such as fuse.sshfs.
func networkType(name string) bool {
	sub := strings.TrimPrefix(name, "fuse.")
	for _, t := range networkTypes {
		if strings.HasPrefix(sub, t) {
			return true
		}
	}
	return false
}
