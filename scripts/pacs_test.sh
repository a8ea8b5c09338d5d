#!/usr/bin/env bash
# A node beside a real archive (Orthanc): radiographs in, answers back into their studies, by C-STORE and by DICOMweb.
# What comes back must be accepted by dciodvfy without an error, and dsrdump must read it. Where Orthanc and the tools
# are missing and cannot be installed, it says so and is skipped.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "[test]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
studies="${PACS_STUDIES:-3}"

missing() { for each in Orthanc dciodvfy dsrdump curl; do command -v "$each" >/dev/null || return 0; done; return 1; }
if missing && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq orthanc orthanc-dicomweb dcmtk dicom3tools curl; } >/dev/null || true
fi
plugin=$(find /usr/lib /usr/share/orthanc -name 'libOrthancDicomWeb.so*' 2>/dev/null | head -n 1 || true)
if missing || [ -z "$plugin" ]; then
    echo "skipped: needs orthanc, orthanc-dicomweb, dcmtk, dicom3tools and curl, and may not install them here"
    exit 0
fi

work=$(mktemp -d)
processes=()
stop() { for each in "${processes[@]}"; do kill "$each" 2>/dev/null && wait "$each" 2>/dev/null || true; done; processes=(); }
trap 'stop; rm -rf "$work"' EXIT
read -r http dicom node < <(python - <<'PY'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in sockets))
PY
)
web="http://127.0.0.1:$http/dicom-web"

await() { # URL
    for _ in $(seq 120); do curl --silent --fail --output /dev/null "$1" && return 0; sleep 0.5; done
    echo "no answer: $1" >&2
    return 1
}

start_orthanc() { # FOLDER
    mkdir -p "$1"
    cat >"$1/orthanc.json" <<JSON
{"Name": "test", "StorageDirectory": "$1/db", "IndexDirectory": "$1/db", "Plugins": ["$plugin"],
 "HttpPort": $http, "DicomPort": $dicom, "DicomAet": "ORTHANC", "DicomCheckCalledAet": true, "OverwriteInstances": false,
 "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "DicomAlwaysAllowStore": true,
 "DicomModalities": {"vkd": ["VKD", "127.0.0.1", $node]}, "DicomWeb": {"Enable": true, "Root": "/dicom-web/"}}
JSON
    Orthanc "$1/orthanc.json" >"$1/log" 2>&1 &
    processes+=($!)
    await "http://127.0.0.1:$http/system"
    for file in "$work"/images/*.dcm; do
        curl --silent --fail --output /dev/null --data-binary "@$file" "http://127.0.0.1:$http/instances"
    done
}

start_node() { # FOLDER OPTIONS...
    local folder=$1
    shift
    python -m vkd_pyro.cli pacs "$work/bundle" --spool.folder "$folder/spool" --answer.quiet_seconds 3 "$@" 2>"$folder/node" &
    processes+=($!)
    for _ in $(seq 240); do grep -q "so far" "$folder/node" && break; sleep 0.5; done
}

check() { # FOLDER
    python scripts/pacs_trial.py fetch "$1/back" --url "$web" --studies "$studies" || { cat "$1/node"; return 1; }
    for file in "$1"/back/*.dcm; do
        dciodvfy "$file" >"$file.dciodvfy" 2>&1 || true
        if grep "^Error" "$file.dciodvfy"; then echo "dciodvfy: $(basename "$file") has errors" >&2; return 1; fi
    done
    echo "dciodvfy: no error in $(find "$1/back" -name '*.dcm' | wc -l) documents; of the first report and picture:"
    sort "$1"/back/0-*.dciodvfy | uniq -c
    dsrdump +Pl "$1/back/0-SR.dcm" >"$1/dump"
    grep -q "Probability" "$1/dump" && grep -q "bundle sha256: [0-9a-f]\{64\}" "$1/dump"
    grep -A 22 'Tracking Identifier")="Atelectasis' "$1/dump"
    cat "$1/node"
}

python scripts/pacs_trial.py images "$work/images" --studies "$studies"
python scripts/pacs_trial.py bundle "$work/bundle"

echo "== C-STORE in, C-STORE out"
start_orthanc "$work/dimse"
start_node "$work/dimse" --receive.port "$node" --receive.calling_ae_titles '[ORTHANC]' \
    --send_dicom.host 127.0.0.1 --send_dicom.port "$dicom" --send_dicom.ae_title ORTHANC
curl --silent --fail "http://127.0.0.1:$http/instances" |
    curl --silent --fail --output /dev/null --data-binary @- "http://127.0.0.1:$http/modalities/vkd/store"
check "$work/dimse"
stop

echo "== QIDO-RS and WADO-RS in, STOW-RS out"
start_orthanc "$work/web"
start_node "$work/web" --poll.archive.url "$web" --poll.seconds 2 --send_web.url "$web"
check "$work/web"
stop
echo "the node answered $studies studies both ways"
