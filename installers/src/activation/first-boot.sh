#!/bin/sh
# Registers this machine with AWS Systems Manager, once for a machine-id. Written by ssmbake, started at every boot before
# the agent. What came of it is in /var/lib/ssmbake/first-boot.json.
# shellcheck disable=SC2317,SC1003 # which readers are called depends on the sources
set -u
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

sources='@SOURCES@'
default_region='@REGION@'
state=/var/lib/ssmbake
ssm=/var/lib/amazon/ssm
stamp=$state/machine-id
# Seconds that a boot waits for the registration at most; the next boot tries again.
limit=${SSMBAKE_FIRST_BOOT_LIMIT:-900}
# An activation: ssm-activation:ID:CODE or ssm-activation:ID:CODE:REGION, anywhere in the text of a source.
uuid='[0-9a-f]\{8\}-[0-9a-f]\{4\}-[0-9a-f]\{4\}-[0-9a-f]\{4\}-[0-9a-f]\{12\}'
code_letters='[A-Za-z0-9+/=_-]\{20,250\}'

# Where a machine's id may stand; the first that has one.
ids='/etc/machine-id /var/lib/dbus/machine-id /sys/class/dmi/id/product_uuid'

# What a fetcher said that failed.
complaint=$state/complaint

id='' code='' said='' dead='' region='' source='' why='' attempts=0 where='' machine='' machine_file=''

say() { printf '%s\n' "$1"; }
has() { command -v "$1" >/dev/null 2>&1; }

# What may stand in JSON.
plain() { printf '%s' "$1" | tr -d '\000-\037"\\' | cut -c 1-300; }

report() {
    instance=$(sed -n 's/.*"ManagedInstanceID" *: *"\([a-z0-9-]*\)".*/\1/p' "$ssm/registration" 2>/dev/null)
    printf '{"schema": 1, "state": "%s", "source": "%s", "managed_instance": "%s", "machine_id": "%s", "attempts": %s, "why": "%s"}\n' \
        "$1" "$(plain "${source%%\?*}")" "$instance" "$machine" "$attempts" "$(plain "$why")" >"$state/first-boot.json.new"
    chmod 644 "$state/first-boot.json.new"
    mv -f "$state/first-boot.json.new" "$state/first-boot.json"
    say "$1${instance:+ as $instance}${why:+: $(plain "$why")}"
}

id_in() {
    line=$(head -n 1 "$1" 2>/dev/null)
    [ "$line" = uninitialized ] || printf '%s' "$line"
}

machine_id() {
    for machine_file in $ids; do
        machine=$(id_in "$machine_file")
        [ -z "$machine" ] || return 0
    done
}

write_stamp() { printf '%s %s\n' "$machine" "$machine_file" 2>/dev/null >"$stamp"; }

# Whether the stamp is of this machine. Its id is looked for where it came from: another file may have got one since. Stamps
# of older scripts do not say where.
is_stamped() {
    read -r stamped from <"$stamp"
    for file in ${from:-$ids}; do
        [ "$(id_in "$file")" != "$stamped" ] || return 0
    done
    return 1
}

agent() {
    for program in /usr/bin/amazon-ssm-agent /snap/amazon-ssm-agent/current/amazon-ssm-agent; do
        [ ! -x "$program" ] || { printf '%s' "$program"; return 0; }
    done
}

# Each reader prints what its source holds; nothing where there is none.
read_env() {
    [ -z "${SSM_ACTIVATION_ID:-}" ] || printf 'ssm-activation:%s:%s%s\n' "$SSM_ACTIVATION_ID" \
        "${SSM_ACTIVATION_CODE:-}" "${SSM_ACTIVATION_REGION:+:$SSM_ACTIVATION_REGION}"
}
read_cmdline() { tr ' ' '\n' </proc/cmdline; }
read_fw_cfg() {
    modprobe -q qemu_fw_cfg 2>/dev/null
    cat /sys/firmware/qemu_fw_cfg/by_name/opt/com.amazonaws.ssm/activation/raw 2>/dev/null
}
read_smbios() {
    modprobe -q dmi-sysfs 2>/dev/null
    cat /sys/firmware/dmi/entries/11-*/raw 2>/dev/null | tr -c '[:print:]' '\n'
}
mount_volume() {
    device=$(blkid -L "$1" 2>/dev/null) || device=/dev/disk/by-label/$1
    mkdir -p /run/ssmbake-seed
    [ -e "$device" ] && mount -o "$2" "$device" /run/ssmbake-seed 2>/dev/null
}
# read_volume LABEL: a file `ssm-activation` at the top of a volume, such as a seed ISO or a config drive.
read_volume() {
    mount_volume "$1" ro || return 0
    cat /run/ssmbake-seed/ssm-activation 2>/dev/null
    umount /run/ssmbake-seed
}
# The text of a file that may be packed by gzip, and the parts that MIME has packed in it.
unpacked() { gzip -dc <"$1" 2>/dev/null || cat "$1" 2>/dev/null; }
parts() {
    unpacked "$1" | tr -d '\000\r' | awk '
        BEGIN { decode = "base64 -d 2>/dev/null; echo" }
        tolower($0) ~ /^content-transfer-encoding:[ \t]*base64/ { head = 1; next }
        head && $0 == "" { head = 0; body = 1; next }
        /^--/ { if (body) close(decode); head = body = 0; next }
        body { print | decode }
        END { if (body) close(decode) }' 2>/dev/null
}
read_cloud_init() {
    # The second is what cloud-init made of the first: what it includes is fetched there.
    for file in /var/lib/cloud/instance/user-data.txt /var/lib/cloud/instance/user-data.txt.i; do
        [ ! -f "$file" ] || { unpacked "$file" && parts "$file"; }
    done | tr -d '\000'
}
read_file() { cat "$1" 2>/dev/null; }
# ssmbake, where the image has it, brings its own TLS; curl and wget are whatever the image has.
read_url() {
    if has ssmbake; then
        ssmbake activation "$1"
    elif has curl; then
        curl -fsS --max-time 30 --proto =https "$1"
    elif has_wget; then
        wget -nv --tries=1 -T 30 --max-redirect=0 -O - "$1"
    else
        echo 'there is neither ssmbake, curl nor a wget for the URL' >&2
    fi 2>"$complaint"
}
# That of busybox checks no certificate and goes where a server sends it, to http as well.
has_wget() { has wget && wget --help 2>&1 | grep -q -e '--max-redirect'; }

# The last complaint of a fetcher, without what makes its URL a secret.
complained() {
    grep -v 'hint:' "$complaint" | sed 's/?[^ `]*//g; s#//[^/ ]*@#//#g' | tail -n 1
    rm -f "$complaint"
}

# Fills id, code and region from a text; false where it holds no activation.
parse() {
    line=$(printf '%s\n' "$1" | sed -n "s/.*ssm-activation[:=]\($uuid:$code_letters\(:[a-z0-9-]*\)\{0,1\}\).*/\1/p" | head -n 1)
    if [ -n "$line" ]; then
        id=${line%%:*}
        line=${line#*:}
        code=${line%%:*}
        case $line in *:*) region=${line#*:} ;; esac
        return 0
    fi
    # What `aws ssm create-activation` prints; Region may stand beside.
    flat=$(printf '%s' "$1" | tr -d '\n\r')
    id=$(printf '%s' "$flat" | sed -n "s/.*\"ActivationId\" *: *\"\($uuid\)\".*/\1/p")
    code=$(printf '%s' "$flat" | sed -n "s/.*\"ActivationCode\" *: *\"\($code_letters\)\".*/\1/p")
    named=$(printf '%s' "$flat" | sed -n 's/.*"Region" *: *"\([a-z0-9-]*\)".*/\1/p')
    region=${named:-$region}
    [ -n "$id" ] && [ -n "$code" ]
}

# Nobody finds it on the disk any more, not even in free blocks.
wipe() {
    [ -f "$1" ] && [ ! -L "$1" ] || return 1
    shred -u "$1" 2>/dev/null && return 0
    dd if=/dev/zero of="$1" bs="$(wc -c <"$1")" count=1 conv=notrunc 2>/dev/null || return 1
    sync
    rm -f "$1"
}

# Puts as many other letters in the place of the code, where it lies: cloud-init's later stages still need the file.
blank() {
    grep -qF -f /run/ssmbake/code "$1" || return 0
    sed "s|$code|$(printf '%s' "$code" | sed 's/./x/g')|g" "$1" >/run/ssmbake/blank
    if [ "$(wc -c <"$1")" -eq "$(wc -c </run/ssmbake/blank)" ] &&
        dd if=/run/ssmbake/blank of="$1" bs=65536 conv=notrunc 2>/dev/null; then
        sync
    else
        wipe "$1"
    fi
    rm -f /run/ssmbake/blank
}

# Before its last stage cloud-init reads from there what it is to do; status and result are of this boot.
is_cloud_init_at_work() { [ -e /run/cloud-init/status.json ] && [ ! -e /run/cloud-init/result.json ]; }
# Copies of the user data as cloud-init has packed them.
wipe_cache() {
    find /var/lib/cloud /run/cloud-init -type f \( -name obj.pkl -o -name instance-data-sensitive.json \) 2>/dev/null |
        while IFS= read -r file; do wipe "$file"; done
}
wipe_cache_later() {
    # Nobody waits for the end of what it says.
    exec >/dev/null 2>&1 </dev/null
    for _ in $(seq 1800); do
        is_cloud_init_at_work || break
        sleep 2
    done
    wipe_cache
}

# The code is used up; it goes wherever this machine can reach it.
destroy_source() {
    case $source in
        file:*) wipe "$where" || why="the activation is still in $where: it cannot be written" ;;
        volume:*)
            why="the activation is still on the volume $where: detach it"
            if mount_volume "$where" rw; then
                [ ! -w /run/ssmbake-seed/ssm-activation ] || ! wipe /run/ssmbake-seed/ssm-activation || why=''
                umount /run/ssmbake-seed
            fi
            ;;
        cloud_init)
            why='the activation is still in the user data: take it out there'
            mkdir -p /run/ssmbake
            printf '%s\n' "$code" >/run/ssmbake/code
            find /var/lib/cloud /run/cloud-init -type f 2>/dev/null | while IFS= read -r file; do
                blank "$file"
                case ${file##*/} in
                    obj.pkl | instance-data-sensitive.json) continue ;;
                esac
                if { unpacked "$file" && parts "$file"; } | grep -qF -f /run/ssmbake/code; then
                    : >/run/ssmbake/packed
                    wipe "$file"
                fi
            done
            if [ -e /run/ssmbake/packed ]; then
                if is_cloud_init_at_work; then wipe_cache_later & else wipe_cache; fi
            fi
            wipe /run/ssmbake/code
            rm -f /run/ssmbake/packed
            ;;
        env)
            # Where the service manager takes them from at each boot.
            file=$(grep -ls SSM_ACTIVATION_CODE /proc/cmdline /etc/systemd/system.conf /*/systemd/system.conf.d/* \
                /usr/lib/systemd/system.conf.d/* /etc/systemd/system/ssmbake-first-boot.service.d/* | head -n 1)
            [ -z "$file" ] || why="the activation is still in $file: take it out there"
            ;;
        *) why="the activation is still in the machine's definition ($name): take it out there" ;;
    esac
}

forget() {
    "$(agent)" -register -clear >/dev/null 2>&1
    # The agent leaves the registration behind, which it would believe.
    rm -rf "$ssm/registration" "$ssm/Vault" "$ssm"/i-* "$ssm"/mi-*
    rm -f "$stamp"
}

register() {
    attempts=$((attempts + 1)) said=''
    # A machine whose clock is before this file's own time has no clock yet: AWS would refuse it.
    if [ "$(date +%s)" -lt "$(date -r "$0" +%s 2>/dev/null || echo 0)" ]; then
        why='the clock is behind the image'
        return 1
    fi
    if [ -z "$region" ]; then
        why="$source names no region, and the image has none"
        return 1
    fi
    # Before the activation is used up: without a stamp a copy of this machine would be taken for it.
    if ! write_stamp; then
        why="$stamp cannot be written"
        return 1
    fi
    said=$("$(agent)" -register -y -code "$code" -id "$id" -region "$region" 2>&1) && [ -s "$ssm/registration" ] && return 0
    rm -f "$stamp"
    why=$(printf '%s\n' "$said" | tail -n 1)
    case $why in *"$code"*) why='the agent refused the activation' ;; esac
    return 1
}

# Tries what the sources hold, one after the other; false where none of it registers. Fills found, where one may yet, and
# pending, where a server may yet answer.
try_sources() {
    found='' pending='' missing=''
    # A URL may hold what the shell would take for a pattern.
    set -f
    # shellcheck disable=SC2086 # a source has no blanks
    set -- $sources
    set +f
    for one; do
        region=$default_region
        name=${one%%:*}
        where=${one#*:}
        case $name in
            https)
                if ! parse "$(read_url "$one")"; then
                    pending=yes missing=$(complained)
                    continue
                fi
                ;;
            *) parse "$("read_$name" "$where")" || continue ;;
        esac
        case $dead in *" $id:$code "*) continue ;; esac
        found=yes source=$one
        register && return 0
        # AWS takes it never again.
        case $said in *InvalidActivation* | *ActivationExpired*) dead="$dead $id:$code " ;; esac
    done
    [ -n "$found$dead" ] || why="no source holds an activation${missing:+: $missing}"
    return 1
}

# Machines that boot together do not come back together.
pause() {
    random=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')
    sleep $((delay / 2 + random % (delay / 2 + 1)))
    delay=$((delay * 2))
    [ "$delay" -le 120 ] || delay=120
}

mkdir -p "$state"
machine_id
if [ -z "$(agent)" ]; then
    why='there is no agent'
    report failed
    exit 1
fi
if [ -s "$ssm/registration" ]; then
    if [ ! -s "$stamp" ]; then
        # Somebody else registered this machine before this script ran.
        write_stamp
    fi
    if is_stamped; then
        # cloud-init writes the user data anew at each boot.
        case " $sources " in
            *' cloud_init '*)
                if parse "$(read_cloud_init)"; then
                    source=cloud_init
                    destroy_source
                fi
                ;;
        esac
        report registered
        exit 0
    fi
    say 'this is a copy of a registered machine: its registration is cleared'
    forget
fi
delay=4
until_when=$(($(date +%s) + limit))
while :; do
    if try_sources; then
        why=''
        # A power cut must not find the source gone and the registration not yet on the disk.
        sync
        destroy_source
        report registered
        ! has initctl || [ -d /run/systemd/system ] ||
            initctl restart amazon-ssm-agent 2>/dev/null || initctl start amazon-ssm-agent
        exit 0
    fi
    if [ -z "$found$pending$dead" ]; then
        report waiting
        exit 0
    fi
    if [ -z "$found$pending" ] || [ "$(date +%s)" -ge "$until_when" ]; then
        report failed
        exit 1
    fi
    say "attempt $attempts: $(plain "$why")"
    pause
done
