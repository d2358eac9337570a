# What the packages' scripts do, whichever package it is. Each script has these functions in front of its own few lines.

# Units that are restarted after an upgrade, if they run.
UNITS="@UNITS@"

PINS=/sys/fs/bpf/enforcer

manager() {
    if [ -d /run/systemd/system ]; then
        systemctl "$@"
    fi
}

# Directories, and the group that may use the TPM.
prepare() {
    systemd-sysusers enforcer.conf
    systemd-tmpfiles --create enforcer.conf
    manager daemon-reload
}

# A machine that has no policies yet gets no daemon yet; from the next boot on, it has.
installed() {
    prepare
    systemctl --no-reload enable enforcer.service
    echo "enforcer: enabled, and not started. \`enforcer probe\` tells what this machine can enforce;"
    echo "enforcer: with /etc/enforcer/anchors.toml and policies in place: systemctl start enforcer"
}

# Enforcement does not pause: programs and tables stay in the kernel, and the new daemon takes them over.
upgraded() {
    prepare
    for unit in $UNITS; do
        if ! manager try-restart "$unit"; then
            echo "enforcer: the new $unit did not start, see \`systemctl status $unit\`;" >&2
            echo "enforcer: what was in force stays in force" >&2
        fi
    done
}

# Whoever may remove a package may not know that it protects something: only purging turns enforcement off.
removing() {
    for unit in $UNITS; do
        manager stop "$unit"
    done
    if [ -d "$PINS" ]; then
        echo "enforcer: what is in force stays in force until the machine is rebooted; to end it now:" >&2
        echo "enforcer:   rm -r $PINS/v*/links $PINS" >&2
    fi
}

removed() {
    manager daemon-reload
}

# Links first: programs go before the tables that they read.
purged() {
    if [ -d "$PINS" ]; then
        rm -rf "$PINS"/v*/links
        rm -rf "$PINS"
        echo "enforcer: enforcement is off" >&2
    fi
    rm -rf /etc/enforcer /var/lib/enforcer /var/log/enforcer /run/enforcer
    for unit in $UNITS; do
        rm -f /etc/systemd/system/*.wants/"$unit"
    done
    manager daemon-reload
}
