curl -fsSL -o /usr/local/sbin/ssmbake @URL@ || wget -q -O /usr/local/sbin/ssmbake @URL@
echo "@SHA256@  /usr/local/sbin/ssmbake" | sha256sum -c - >/dev/null
chmod 755 /usr/local/sbin/ssmbake
