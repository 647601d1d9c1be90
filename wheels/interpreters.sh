#!/bin/sh
# Interpreters to test wheels with, made out of Debian's packages (as root, on Debian 12 or newer):
#   interpreters.sh arm64 DIR          an arm64 root for qemu-aarch64-static -L DIR DIR/usr/bin/python3.11
#   interpreters.sh musl DIR           CPython 3.13 on musl, built here: DIR/bin/python3.13
#   interpreters.sh freethreaded DIR   CPython 3.13 without the GIL, built here: DIR/bin/python3.13t
set -eu
kind=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)

# The sources of a package of trixie, unpacked in $work, from package lists of their own.
source_of() {
  work=$dir/work
  mkdir -p "$work/lists/partial"
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
  (
    cd "$work"
    package=$1
    set -- -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists"
    apt-get "$@" update
    apt-get "$@" source --download-only "$package"
    tar xf "$package"_*.orig.tar.?z
  )
}

case $kind in
arm64)
  apt-get install -y debootstrap qemu-user-static
  debootstrap --foreign --arch=arm64 --variant=minbase --include=python3,libstdc++6 bookworm "$dir" "$mirror"
  for package in "$dir"/var/cache/apt/archives/*.deb; do  # instead of the second stage, which would have to run arm64
    dpkg-deb -x "$package" "$dir"
  done
  ;;
freethreaded)
  apt-get install -y gcc make zlib1g-dev libffi-dev liblzma-dev libssl-dev
  source_of python3.13
  cd "$work"/Python-3.13*
  ./configure -q --disable-gil --prefix="$dir" --disable-test-modules
  make -s -j2
  make -s install
  ;;
musl)
  apt-get install -y gcc make musl-tools
  source_of zlib
  cd "$work"/zlib-*
  CC=musl-gcc CFLAGS="-O2 -fPIC" ./configure --static --prefix="$dir"
  make -s
  make -s install
  source_of python3.13
  cd "$work"/Python-3.13*
  cat >"$work/cc" <<'END'  # gcc tells the name of its own libc
#!/bin/sh
if [ "$1" = --print-multiarch ]; then echo x86_64-linux-musl; else exec musl-gcc "$@"; fi
END
  chmod +x "$work/cc"
  CC="$work/cc" PKG_CONFIG=false ZLIB_CFLAGS="-I$dir/include" ZLIB_LIBS="$dir/lib/libz.a" \
    ./configure -q --build=x86_64-linux-musl --prefix="$dir" --disable-test-modules --without-ensurepip
  make -s -j2
  make -s install
  ;;
*)
  sed -n '2,5s/^# *//p' "$0" >&2
  exit 2
  ;;
esac
