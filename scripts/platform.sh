# shellcheck shell=bash disable=SC2034 # Read by those who source it.
# Which machine a build is for; sourced by scripts/image and scripts/release.
#
# platform NAME sets, for linux/amd64 or linux/arm64 (empty: this machine):
#   platform      its name
#   architecture  the same without "linux/"
#   triple        Rust's target; empty for this machine
#   strip         the program that strips for it
#   compiler      the C compiler for it
# It fails for a name that there is not.
platform() {
  local own
  own=$(uname -m)
  case $own in x86_64) own=amd64 ;; aarch64) own=arm64 ;; esac
  architecture=${1#linux/}
  architecture=${architecture:-$own}
  platform=linux/$architecture triple="" strip=strip compiler=cc
  case $platform in linux/amd64 | linux/arm64) ;; *) return 1 ;; esac
  case $own/$architecture in
    amd64/amd64 | arm64/arm64) return 0 ;;
    */amd64) triple=x86_64-unknown-linux-gnu ;;
    */arm64) triple=aarch64-unknown-linux-gnu ;;
  esac
  strip=${triple/-unknown/}-strip compiler=${triple/-unknown/}-gcc
}

# What is missing here to build for that machine, with the command that installs it; nothing where nothing is.
platform_lacks() {
  [ -n "$triple" ] || return 0
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ]; then
    echo "Rust's target is missing: rustup target add $triple"
  elif ! command -v "$compiler" >/dev/null || ! command -v "$strip" >/dev/null; then
    echo "$compiler or $strip is missing (Debian: gcc-${triple/-unknown-linux-/-linux-})"
  fi
}

# Has cargo build for that machine.
platform_export() {
  [ -n "$triple" ] || return 0
  local linker
  linker=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")_LINKER
  export CARGO_BUILD_TARGET=$triple "$linker=$compiler" "CC_${triple//-/_}=$compiler"
}
