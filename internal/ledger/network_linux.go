package ledger

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// NetworkFS says whether a folder lies on a network file system, and on which kind. What cannot be found out is none.
func NetworkFS(dir string) (kind string, is bool) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return "", false
	}
	if kind, is = networkMagic[uint32(fs.Type)]; is || uint32(fs.Type) != fuseMagic {
		return kind, is
	}
	kind = mountType(dir)
	return kind, networkType(kind)
}

// mountType is the type of the file system that a folder lies on, as the list of mounts has it: proc(5), mountinfo.
func mountType(dir string) string {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return ""
	}
	major := st.Dev>>8&0xfff | st.Dev>>32&^0xfff
	minor := st.Dev&0xff | st.Dev>>12&^0xff
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	device := fmt.Sprintf("%d:%d", major, minor)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if fields := strings.Fields(before); len(fields) > 2 && fields[2] == device {
			return strings.Fields(after)[0]
		}
	}
	return ""
}
