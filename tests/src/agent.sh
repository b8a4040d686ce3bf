#!/bin/sh
# Stands in for the agent. It registers, with the server that its region has where /etc/amazon-test-endpoint exists; else it
# records that it was started, its environment, and which region and host it would use.
test=/var/lib/amazon-test ssm=/var/lib/amazon/ssm
mkdir -p $test $ssm/Vault/Store
if [ "$1" = -register ]; then
    if [ "$2" = -clear ]; then
        echo clear >>$test/registrations
        # As the real one: the registration stays.
        rm -rf $ssm/Vault
        exit 0
    fi
    # -register -y -code C -id I -region R
    case $4 in expired*) echo "InvalidActivation: activation $6 has expired" >&2; exit 1 ;; esac
    case $4 in refuse*) echo "activation $6 with code $4 is not valid" >&2; exit 1 ;; esac
    instance=mi-0123456789abcdef0
    if [ -e /etc/amazon-test-endpoint ]; then
        instance=$(curl -fsS -d "$6:$4" "https://ssm.$8.amazonaws.com/") || exit 1
    fi
    echo "register $6 $8" >>$test/registrations
    echo "private key of $instance" >$ssm/Vault/Store/RegistrationKey
    printf '{"ManagedInstanceID":"%s","Region":"%s"}' "$instance" "$8" >$ssm/registration
    exit 0
fi
env >$test/started
region=$(sed -n 's/.*"Region":"\([^"]*\)".*/\1/p' $ssm/registration 2>/dev/null)
if [ -z "$region" ] && command -v curl >/dev/null; then
    metadata=http://169.254.169.254/latest
    token=$(curl -sf -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $metadata/api/token)
    region=$(curl -sf -m 2 -H "X-aws-ec2-metadata-token: $token" $metadata/meta-data/placement/region)
    # The words apart, so that a search of the disk finds the key and not this script.
    printf 'private %s\n' 'key of an instance' >$ssm/Vault/Store/EC2RegistrationKey
fi
host=$(tr -d '\n' </etc/amazon/ssm/amazon-ssm-agent.json 2>/dev/null |
    sed -n 's/.*"Ssm" *: *{[^}]*"Endpoint" *: *"\([^"]*\)".*/\1/p')
echo "$region ${host:-ssm.$region.amazonaws.com}" >$test/identity
exec sleep infinity
exit
