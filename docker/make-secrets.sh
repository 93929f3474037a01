#!/bin/sh
# Makes the database's password, and the URL that holds it, once: Compose's first start.
set -eu
folder=${1:-/run/fireflow}
umask 077
cd "$folder"
if [ ! -s postgres-password ]; then
    # 32 bytes in hexadecimal: nothing in it has to be escaped in a URL.
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > postgres-password.new
    mv postgres-password.new postgres-password
fi
# Made anew each time: it cannot disagree with the password.
printf 'postgres://fireflow:%s@postgres/fireflow' "$(cat postgres-password)" > database-url.new
# The user of FireFlow's image.
chown 65532:65532 database-url.new
mv database-url.new database-url
