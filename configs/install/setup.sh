#!/bin/sh
# Makes .venv with everything in it, at the versions tested together. `make setup` runs this; when
# nothing it depends on has changed since the last time, it is done in an instant.
set -eu
cd "$(dirname "$0")/../.."

venv=.venv
stamp=$venv/.r1v-ray
uv=uv==0.13.9

say() { printf '%s\n' "$*"; }
refuse() {
    printf 'make setup: %s\n' "$*" >&2
    exit 1
}

find_python() {
    for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    refuse "no Python 3.11 or newer found; install one (apt install python3 python3-venv)," \
        "or name it: make setup PYTHON=/path/to/python3.11"
}

# What pip cannot bring.
has_headers='
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
check_machine() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        refuse "$python cannot make virtual environments; run: apt install python3-venv"
    if [ "$engine" = cpu ]; then
        "$python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null ||
            refuse "libnuma.so.1, which vLLM's CPU engine loads, is missing; run: apt install libnuma1"
    elif ! "$python" -c "$has_headers" || ! command -v gcc >/dev/null; then
        refuse "a C compiler and Python's headers, with which Triton builds GPU kernels as they are" \
            "met, are missing; run: apt install gcc python3-dev"
    fi
}

# The wheels of torch are built for CUDA 13, which older drivers do not run.
oldest_driver=580
check_driver() {
    if [ "$engine" = cpu ]; then return; fi
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
    if [ -n "$driver" ] && [ "${driver%%.*}" -lt $oldest_driver ]; then
        refuse "the NVIDIA driver is $driver; CUDA 13 needs $oldest_driver or newer: upgrade it"
    fi
}

# pip says nothing while it unpacks, which takes minutes for the large packages.
count_packages() {
    total=$(($(grep -c "==" "$limits") + 2)) # and pip, and this project
    trap 'kill $sleep; exit' TERM
    while :; do
        sleep 15 >/dev/null 2>&1 &
        sleep=$!
        wait $sleep
        found=$(find $venv/lib -maxdepth 4 -name '*.dist-info' | wc -l)
        say "  ... $found of about $total packages"
    done
}

# The CPU build of torch lies outside the package index that pip knows, unless this machine's pip was
# told of a place that has it. uv knows where PyTorch keeps it.
install_cpu_torch() {
    if $venv/bin/python -m pip install "torch==2.13.0+cpu" -c "$limits" 2>$venv/pip-torch.log; then
        return
    fi
    say "pip finds no CPU build of torch; asking PyTorch's own index by way of uv"
    $venv/bin/python -m pip install "$uv"
    $venv/bin/uv pip install --python $venv/bin/python --torch-backend=cpu \
        -c "$limits" torch torchvision
}

# ENGINE=gpu or ENGINE=cpu says what a machine cannot show, such as an image built without its GPUs.
engine=${ENGINE:-}
case $engine in
cpu | gpu) ;;
"") if nvidia-smi -L >/dev/null 2>&1; then engine=gpu; else engine=cpu; fi ;;
*) refuse "ENGINE=$engine is neither cpu nor gpu" ;;
esac
check_driver
limits=configs/install/$engine.txt
find_python

wanted=$(
    "$python" --version
    pwd
    sha256sum pyproject.toml "$limits" configs/install/setup.sh configs/install/torchvision_ops.py
)
if [ -e $stamp ] && [ "$(cat $stamp)" = "$wanted" ]; then exit 0; fi

check_machine
say "Installing into $venv ($("$python" --version), $engine): about 5 minutes and 5 GB the first time"
rm -f $stamp
if [ -d $venv ] && ! grep -qF "$(pwd)/$venv" $venv/bin/activate 2>/dev/null; then
    # Its programs name the Python of the place that it was made in, and would install there.
    say "$venv was made elsewhere, before this folder was moved or copied; making it anew"
    rm -rf $venv
fi
[ -x $venv/bin/python ] || "$python" -m venv $venv
count_packages &
counter=$!
trap 'kill $counter 2>/dev/null' EXIT
if [ "$engine" = cpu ]; then install_cpu_torch; fi
$venv/bin/python -m pip install -e ".[$engine,dev]" -c "$limits"
$venv/bin/python -m configs.install.torchvision_ops
printf '%s\n' "$wanted" >$stamp
say "Installed"
