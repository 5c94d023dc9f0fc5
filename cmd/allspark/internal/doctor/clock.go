package doctor

import "io/fs"

// Clock is what is known about the machine's clock.
type Clock struct {
	Source string // what the kernel reads it from
	Known  bool   // whether the next is known
	Synced bool   // somebody (NTP, PTP, the hypervisor) keeps it right
}

func readClock(root fs.FS) Clock {
	c := Clock{Source: text(root, "sys/devices/system/clocksource/clocksource0/current_clocksource")}
	c.Synced, c.Known = clockSynced()
	return c
}

func checkClock(f *Facts) (found []Finding) {
	const check = "clock"
	switch f.Clock.Source {
	case "hpet", "acpi_pm", "jiffies", "xen":
		found = append(found, Finding{
			check, Advice, "it is read from " + f.Clock.Source,
			"Each look at the clock is a system call, and there are several for each message.", "dmesg | grep -i clocksource, to see why it is not tsc",
		})
	}
	if f.Clock.Known && !f.Clock.Synced {
		found = append(found, Finding{
			check, Advice, "the kernel knows of nobody who keeps it right",
			"Auth keys begin and end, and messages are dated, by it. In some virtual machines the host keeps it right, and this is no matter.",
			"sudo apt-get install chrony, or timedatectl set-ntp true",
		})
	}
	switch {
	case len(found) > 0:
	case f.Clock.Known && f.Clock.Source != "":
		found = fine(check, "kept right, read from %s", f.Clock.Source)
	case f.Clock.Known:
		found = fine(check, "kept right")
	case f.Clock.Source != "":
		found = fine(check, "read from %s", f.Clock.Source)
	}
	return found
}
