namespace MigrationOps.Engine.Streams;

/// <summary>Optional parts of which it is known what a destination that does not write them now does with them.</summary>
internal static class KnownSubsections
{
    // Those that QEMU 7.2 knows, by its -dump-vmstate for all targets of Debian and, for CPUs, by its program: every QEMU
    // that is in use loads them.
    private const string OfOldReleases = """
        ICH9LPC/rst_cnt;ICH9LPC/smi_feat;PIIX3/rcr;SCSIDevice/sense;TMP105/detect-falling;acpi-ged/ghes;acpi-ged/memhp;arm.cortex-a9-global-timer.control;arm_gic_virt_state;
        arm_gicv3/gicd_no_migration_shift_bug;arm_gicv3_cpu/gicv4;arm_gicv3_cpu/sre_el1;arm_gicv3_cpu/virt;armv7m_nvic/m-security;clock/muldiv;cpu/altivec;cpu/altivec/vscr;
        cpu/amd_tsc_scale_msr;cpu/arch_lbr;cpu/async_pf_int_msr;cpu/async_pf_msr;cpu/async_pv_eoi_msr;cpu/avx512;cpu/bpbc;cpu/compat;cpu/debug;cpu/diag318;cpu/envcfg;cpu/etoken;
        cpu/exception_info;cpu/exval;cpu/fpop_ip_dp;cpu/fpu;cpu/gscb;cpu/hyper;cpu/intel_amx_xtile;cpu/intel_pt;cpu/intel_sgx;cpu/irq-line-state;cpu/iwmmxt;cpu/kvm_nested_state;
        cpu/kvm_nested_state/svm;cpu/kvm_nested_state/vmx;cpu/kvm_nested_state/vmx/shadow_vmcs12;cpu/kvm_nested_state/vmx/vmcs12;cpu/kvmtimer;cpu/m;cpu/m-security;cpu/m/csselr;
        cpu/m/faultmask-primask;cpu/m/fp;cpu/m/mve;cpu/m/other-sp;cpu/m/scr;cpu/m/v8m;cpu/mcg_ext_ctl;cpu/mpx;cpu/msr_architectural_pmu;cpu/msr_hyperv_crash;cpu/msr_hyperv_hypercall;
        cpu/msr_hyperv_reenlightenment;cpu/msr_hyperv_runtime;cpu/msr_hyperv_stimer;cpu/msr_hyperv_synic;cpu/msr_hyperv_time;cpu/msr_hyperv_vapic;cpu/msr_ia32_feature_control;
        cpu/msr_ia32_misc_enable;cpu/msr_smi_count;cpu/msr_tsc_adjust;cpu/msr_tscdeadline;cpu/msr_tsx_ctrl;cpu/msr_xfd;cpu/nested_state;cpu/pdptrs;cpu/pkrs;cpu/pkru;cpu/pmp;cpu/pmsav7;
        cpu/pmsav7-rnr;cpu/pmsav8;cpu/pmu;cpu/pointer_masking;cpu/poll_control_msr;cpu/riccb;cpu/rv128;cpu/serror;cpu/slb;cpu/sme;cpu/spec_ctrl;cpu/sr;cpu/steal_time_msr;cpu/sve;
        cpu/svm_guest;cpu/svn_npt;cpu/thumb2ee;cpu/tlb6xx;cpu/tlbmas;cpu/tm;cpu/triple_fault;cpu/tsc_khz;cpu/umwait;cpu/vector;cpu/vfp;cpu/virt_ssbd;cpu/vregs;cpu/vsx;cpu/xss;
        cpu_common/crash_occurred;cpu_common/exception_index;e1000/full_mac_state;e1000/mit_state;e1000/tx_tso_state;esp/pdma;fdc/phase;fdc/reset_sensei;fdc/result_timer;
        fdrive/media_changed;fdrive/media_rate;fdrive/perpendicular;fw_cfg/acpi_mr;fw_cfg/dma;hpet/offset;hpet/rtc_irq_level;ich9_pm/cpuhp;ich9_pm/memhp;ich9_pm/pcihp;ich9_pm/tco;
        ide bmdma/status;ide bmdma_current;ide_bus/error;ide_drive/atapi/gesn_state;ide_drive/pio_state;ide_drive/tray_state;imx.fec/txdescs;iotkit-secctl-mpcintstatus;iotkit-secctl/msc;
        iotkit-sysctl/sse-200;iotkit-sysctl/sse-300;ipl/iplb_extended;kvmclock/clock_is_reliable;m25p80/aai_enable;m25p80/block_protect;m25p80/data_read_loop;m25p80/write_protect;
        mc146818rtc/irq_reinject_on_ack_count;ohci-core/eof-timer;or-irq-extras;pckbd/extended_state;pckbd_outport;pflash_cfi01_blk_write;piix4_pm/cpuhp;piix4_pm/memhp;pl011/clock;
        pl031/tick-offset;pmu/adb;ps2kbd/command_reply_queue;ps2kbd/ledstate;ps2kbd/need_high_bit;pvscsi/pcie;qxl/monitors-config;rtl8139/hotplug_ready;sd-card/ocr-state;
        sdhci/pending-insert;serial/fifo_timeout_timer;serial/poll;serial/recv_fifo;serial/thr_ipending;serial/timeout_ipending;serial/tsr;serial/xmit_fifo;spapr/cap/ccf_assist;
        spapr/cap/cfpc;spapr/cap/dfp;spapr/cap/fwnmi;spapr/cap/hpt_maxpagesize;spapr/cap/htm;spapr/cap/ibs;spapr/cap/large_decr;spapr/cap/nested_kvm_hv;spapr/cap/rpt_invalidate;
        spapr/cap/sbbc;spapr/cap/vsx;spapr/htab;spapr/rtc;spapr_llan/rx_pools;usb-hub/port-timer;usb-redir-ep/bulk-receiving;usb-redir-ep/stream-state;vga.endian;virtio/64bit_features;
        virtio/broken;virtio/device_endian;virtio/disabled;virtio/extra_state;virtio/packed_virtqueues;virtio/ringsize;virtio/started;virtio/virtqueues;vmbus/rx_queue;
        vmstate-event-facility/mask64;vmstate-event-facility/mask_length;vmxnet3/mcast_list
        """;

    private static readonly HashSet<string> Old = [.. OfOldReleases.Split(';', StringSplitOptions.TrimEntries)];

    // The device's properties alone decide whether these are written, and without them nothing is there to load them into.
    private static readonly HashSet<string> WithoutPlace = ["hda-audio-stream/buffer", "cpu/timer"];

    // As many elements in every VM: the ports of a bus, the regions of a CPU.
    private static readonly HashSet<string> WithFixedArray = ["ich9_pm/pcihp", "piix4_pm/pcihp", "cpu/pmp"];

    /// <summary>True if its arrays are as long in every VM.</summary>
    internal static bool HasFixedArray(string name) => WithFixedArray.Contains(name);

    /// <summary>True if every QEMU since 7.2 knows it, so that it is no reason to ask.</summary>
    internal static bool IsOld(string name) => Old.Contains(name);

    /// <summary>True if QEMU ends with an assertion where its device or CPU has no place for this part.</summary>
    internal static bool NeedsPlace(string name) => WithoutPlace.Contains(name);
}
