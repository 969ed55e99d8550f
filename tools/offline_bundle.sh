#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Gathers what building and running Lockstep needs, from the packages installed on this machine, into one folder that
# travels with the source to a machine without network.
set -eu

headers="libeigen3-dev libcli11-dev libfmt-dev nlohmann-json3-dev libxxhash-dev libre2-dev libtomlplusplus-dev
  libutf8proc-dev zlib1g-dev libgtest-dev libgmock-dev libopenmpi-dev"
is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
# Each Debian has other names for Open MPI's libraries: libopenmpi3 and libpmix2, libopenmpi40 and libpmix2t64.
named_by() {  # named_by PACKAGE NAME: the packages lib<NAME>... on which an installed one depends
  dpkg-query -W -f '${Depends}\n' "$1" 2>/dev/null | grep -oE "\blib$2[0-9][0-9a-z]*" | sort -u |
    while read -r package; do ! is_installed "$package" || echo "$package"; done
}
library_of_mpi=$(named_by openmpi-bin openmpi)
programs="ninja-build openmpi-bin openmpi-common $library_of_mpi $(named_by "${library_of_mpi:-none}" pmix)"
optional="dataset-fashion-mnist libdnnl-dev"  # in this order, while there is room

# Every machine with a compiler has these: they never come from the bundle.
on_every_machine="linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libresolv|libutil|libgcc_s|libstdc\+\+|libgomp|\
libatomic"
# Open MPI's plugins for special networks and for OpenSHMEM are linked with these.
special_networks="libucp|libfabric|libpsm|libinfinipath|libibverbs|libnl-|liboshmem"
unwanted_files="/share/(doc|man|info|lintian|bash-completion|zsh|emacs|vim|aclocal|pkgconfig)/|/pkgconfig/|/unsupported/|\
/Eigen/src/(Sparse|misc/lapack)|/fortran|/oshmem|/openmpi/include/(openmpi/|.*(shmem|mpif))|\
/bin/(mpi|osh|shmem|opal|ortec|orte-|ompi|aggregate|profile)|\
/libmpi_|/liboshmem|/libompi|/libmca_common_(ucx|ofi|verbs)|/mca_io_romio"

usage() {
  cat <<'END'
usage: tools/offline_bundle.sh [--limit MIB] [--without-data] DIR

Fills the new folder DIR with headers and libraries for building, Open MPI, ninja, and, as far as they fit, the
Fashion-MNIST files and oneDNN. Everything is copied from installed Debian packages (tools/scripts/install_packages.sh --tests
installs them). On the other machine the build takes DIR when it lies in the source folder under the name
offline_bundle, or where the environment variable LOCKSTEP_BUNDLE or -DLOCKSTEP_BUNDLE=DIR says.

  --limit MIB      the most that DIR may hold (default 60)
  --without-data   leave the Fashion-MNIST files out, which makes room for oneDNN
END
}

die() {
  echo "offline_bundle: error: $1" >&2
  exit "${2:-1}"
}

limit=60
bundle=""
while [ $# -gt 0 ]; do
  case "$1" in
    --limit)
      limit=${2:-}
      case "$limit" in '' | *[!0-9]*) usage >&2; die "--limit takes a number of MiB, got '$limit'" 2 ;; esac
      shift
      ;;
    --without-data) optional="libdnnl-dev" ;;
    --help | -h) usage; exit 0 ;;
    -*) usage >&2; die "unknown option '$1'" 2 ;;
    *) [ -z "$bundle" ] || { usage >&2; die "more than one folder: '$bundle' and '$1'" 2; }; bundle=$1 ;;
  esac
  shift
done
[ -n "$bundle" ] || { usage >&2; die "no folder given" 2; }
[ ! -e "$bundle" ] || die "'$bundle' exists; name a new folder, or remove that one first"
command -v patchelf >/dev/null || die "patchelf is not installed (Debian: patchelf); libraries could not be told where they lie"
command -v dpkg-query >/dev/null || die "this is no Debian-like system: there are no installed packages to copy from"

missing=""
for package in $headers $programs; do is_installed "$package" || missing="$missing $package"; done
[ -z "$missing" ] || die "these packages are not installed:$missing; run tools/scripts/install_packages.sh --tests first"

triplet=$(g++ -dumpmachine)
work=$bundle.partial
rm -rf "$work"
trap 'rm -rf "$work"' EXIT

unwanted() {
  case "$1" in
    *libgtest*.a | *libgmock*.a) return 1 ;;
    *.a) return 0 ;;
    */openmpi/lib/openmpi*/*.so) ldd "$1" | grep -Eq "$special_networks" ;;
    *) return 1 ;;
  esac
}

# copy_package FOLDER PACKAGE: copies its license, and from /usr/{bin,include,lib,share} what a build or a run reads.
copy_package() {
  mkdir -p "$1/licenses"
  cp -L "/usr/share/doc/$2/copyright" "$1/licenses/$2"
  dpkg-query -L "$2" | grep -E '^/usr/(bin|include|lib|share)/' | grep -Ev "$unwanted_files" | while read -r file; do
    if [ -L "$file" ] || [ ! -d "$file" ]; then unwanted "$file" || echo ".$file"; fi
  done | tar -C / -c --no-recursion -T - | tar -C "$1" -x
}

# copy_library FOLDER PATH: copies a shared library, under its own name and the loader's name for it, and its license.
copy_library() {
  real=$(readlink -f "$2")
  package=$(dpkg-query -S "$real" 2>/dev/null || dpkg-query -S "${real#/usr}")
  package=${package%%:*}
  cp "$real" "$1/usr/lib/$triplet/"
  cp -L "/usr/share/doc/$package/copyright" "$1/licenses/$package"
}

# Copies what the files of a folder are linked with, and what its links for the linker lead to.
copy_needed_libraries() {
  mkdir -p "$1/usr/lib/$triplet"
  find "$1/usr/lib/$triplet" -maxdepth 1 -type l -name '*.so' | while read -r link; do
    library=/usr/lib/$triplet/$(basename "$link")
    copy_library "$1" "$library"
    ln -sfn "$(basename "$(readlink -f "$library")")" "$link"
  done
  find "$1" -type f \( -name '*.so*' -o -path '*/bin/*' \) -exec ldd {} + | awk '$2 == "=>" { print $1, $3 }' | sort -u |
    grep -Ev "^($on_every_machine)[-.]" | while read -r name path; do
      [ -e "$1/usr/lib/$triplet/$name" ] || copy_library "$1" "$path"
    done
  ${ldconfig:-/sbin/ldconfig} -n "$1/usr/lib/$triplet"
}

# Makes programs and libraries look for libraries in the bundle, wherever it lies. Also beside themselves: PMIx's
# library is loaded through a link, and the origin is where the link is.
make_relocatable() {
  find "$1" -type f \( -name '*.so' -o -name '*.so.*' -o -path '*/bin/*' \) | while read -r file; do
    patchelf --set-rpath "\$ORIGIN:\$ORIGIN/$(realpath -m --relative-to "$(dirname "$file")" "$1/usr/lib/$triplet")" "$file"
  done
}

kibibytes() { du -sk --apparent-size "$@" | awk '{ sum += $1 } END { print sum }'; }
mebibytes() { kibibytes "$@" | awk '{ printf "%.1f", $1 / 1024 }'; }
fits() { [ "$(kibibytes "$@")" -le $((limit * 1024)) ]; }

for package in $headers $programs; do copy_package "$work" "$package"; done
# Debian has many names for it, through symbolic links in /etc.
cp -L "$(command -v mpirun.openmpi)" "$work/usr/bin/mpirun"
copy_needed_libraries "$work"
make_relocatable "$work"
fits "$work" || die "what cannot be left out takes $(mebibytes "$work") MiB; raise the limit of $limit with --limit"

left_out=""
for package in $optional; do
  part=$work.optional
  rm -rf "$part"
  if ! is_installed "$package"; then
    left_out="$left_out $package (not installed)"
    continue
  fi
  copy_package "$part" "$package"
  copy_needed_libraries "$part"
  make_relocatable "$part"
  if fits "$work" "$part"; then
    cp -a "$part/." "$work/"
  else
    left_out="$left_out $package ($(mebibytes "$part") MiB)"
  fi
  rm -rf "$part"
done

(
  cd "$work/licenses"
  echo "architecture $(uname -m)"
  echo "libraries $triplet"
  dpkg-query -W -f 'package ${Package} ${Version}\n' *
) >"$work/manifest.txt"
mv "$work" "$bundle"
trap - EXIT
echo "$bundle: $(mebibytes "$bundle") MiB of at most $limit"
[ -z "$left_out" ] || echo "left out:$left_out"
