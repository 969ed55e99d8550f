#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What somebody sees who installs a Debian, clones this tree and types two commands: runs them in a chroot that has
# nothing else. Last run: chroots of bookworm and trixie were made, and "+ in bookworm: true" and "+ in trixie: true" ended
# well; the two commands were not seen to end there (tests/README.md).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)

usage() {
  cat <<'END'
usage: tests/platforms/debian.sh [--folder DIR] [--mirror URL] RELEASE [COMMAND...]

Makes a chroot of a Debian release (bookworm, trixie) with debootstrap, clones the last commit of this tree into it and
runs COMMAND there, in the clone, as root; without COMMAND
  tools/quickstart.sh && tools/test.sh minimal
Needs root, debootstrap and git.

  --folder DIR   where the chroot goes, as DIR/RELEASE (default: build/platforms). One that is there is used again, with
                 the commits that are new since then; remove it to begin from nothing
  --mirror URL   where packages come from (default: where this machine's apt takes Debian's from)
END
}

die() {
  echo "debian.sh: error: $1" >&2
  exit "${2:-1}"
}

folder=$root/build/platforms
mirror=""
while [ $# -gt 0 ]; do
  case "$1" in
    --folder | --mirror)
      [ -n "${2:-}" ] || { usage >&2; die "$1 takes a value" 2; }
      if [ "$1" = --folder ]; then folder=$2; else mirror=$2; fi
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; die "unknown option '$1'" 2 ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || { usage >&2; die "no release given" 2; }
release=$1
shift
[ $# -gt 0 ] || set -- sh -c 'tools/quickstart.sh && tools/test.sh minimal'

[ "$(id -u)" -eq 0 ] || die "a chroot takes root"
command -v debootstrap >/dev/null || die "debootstrap is not installed (Debian: debootstrap)"
if [ -z "$mirror" ]; then
  # Of the archives that apt knows, the one with a whole Debian.
  mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sed -n 's/^Debian //p' | head -n 1)
  [ -n "$mirror" ] || die "apt knows no mirror of Debian here; name one with --mirror"
fi

mkdir -p "$folder"
chroot=$(cd "$folder" && pwd)/$release
if [ ! -d "$chroot" ]; then
  echo "+ debootstrap $release $mirror"
  rm -rf "$chroot.partial"
  log=$folder/$release.log
  debootstrap --variant=minbase --include=git,ca-certificates "$release" "$chroot.partial" "$mirror" >"$log" 2>&1 ||
    { tail "$log" >&2; die "debootstrap failed (its log is $log)"; }
  # Packages of services are installed and not started.
  printf '#!/bin/sh\nexit 101\n' >"$chroot.partial/usr/sbin/policy-rc.d"
  chmod +x "$chroot.partial/usr/sbin/policy-rc.d"
  mv "$chroot.partial" "$chroot"
fi
for file in resolv.conf hosts; do [ ! -f /etc/$file ] || cp -L /etc/$file "$chroot/etc/$file"; done
apt-config dump Acquire::http::Proxy Acquire::https::Proxy >"$chroot/etc/apt/apt.conf.d/proxy" || true
if [ -d "$chroot/root/lockstep" ]; then
  git -C "$chroot/root/lockstep" fetch --quiet "$root" HEAD
  git -C "$chroot/root/lockstep" checkout --quiet --detach FETCH_HEAD
else
  git clone --quiet --no-hardlinks "$root" "$chroot/root/lockstep"
fi

echo "+ in $release: $*"
# Mounts of its own go with the last process, however it ends.
exec unshare --mount --propagation private sh -c '
  chroot=$1
  shift
  mount -t proc proc "$chroot/proc"
  mount --rbind /sys "$chroot/sys"
  mount --rbind /dev "$chroot/dev"
  mount -t tmpfs tmpfs "$chroot/tmp"
  exec chroot "$chroot" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    TERM="${TERM:-dumb}" LANG=C.UTF-8 sh -c '\''cd /root/lockstep && exec "$@"'\'' sh "$@"' sh "$chroot" "$@"
