#!/bin/sh
# Lays out the root of the image: `root.sh BINARY FOLDER`, on Debian.
set -eu
binary=$1
root=$2

install -D -m 0755 "$binary" "$root/usr/local/bin/fireflow"

# The libraries that the binary names, at the places where the loader looks for them.
libraries=$(ldd "$binary" | grep -o '/[^ ]*')
for library in $libraries; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
    # Its package: scanners read these to know what to compare with Debian's advisories, and its
    # license asks for the text.
    package=$(dpkg-query --search "$(readlink -f "$library")" | head -n 1 | cut -d : -f 1)
    mkdir -p "$root/var/lib/dpkg/status.d" "$root/usr/share/doc/$package"
    dpkg-query --status "$package" > "$root/var/lib/dpkg/status.d/$package"
    cp "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/"
done
install -D -m 0644 -t "$root/usr/share/doc/fireflow" LICENSE-APACHE LICENSE-MIT
install -D -m 0644 /usr/lib/os-release "$root/etc/os-release"

# Names are looked up in /etc/hosts, then by DNS.
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
echo 'fireflow:x:65532:65532::/data:/sbin/nologin' > "$root/etc/passwd"
echo 'fireflow:x:65532:' > "$root/etc/group"
install -d -m 0700 -o 65532 -g 65532 "$root/data"
# SQLite puts what does not fit in memory there where it may, else beside the database.
install -d -m 1777 "$root/tmp"
