"""Fields of KubeRay's custom resources (ray.io/v1, KubeRay 1.5.1) and of the pods in them, as far
as a cluster of ours may use them; from the API references of KubeRay and of Kubernetes.

A name's value says what lies below it: a type, fields, a list of such, or the values it may have.
"""

from typing import Any

_WORDS = dict[str, str]
_RESOURCES = {"limits": _WORDS, "requests": _WORDS}
_CONTAINER: dict[str, Any] = {
    "name": str,
    "image": str,
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "env": [{"name": str, "value": str, "valueFrom": dict}],
    "envFrom": [dict],
    "ports": [{"containerPort": int, "name": str, "protocol": str}],
    "resources": _RESOURCES,
    "securityContext": dict,
    "volumeMounts": [{"name": str, "mountPath": str, "subPath": str, "readOnly": bool}],
}
_POD: dict[str, Any] = {
    "metadata": {"labels": _WORDS, "annotations": _WORDS},
    "spec": {
        "affinity": dict,
        "containers": [_CONTAINER],
        "hostNetwork": bool,
        "imagePullSecrets": [{"name": str}],
        "initContainers": [_CONTAINER],
        "nodeSelector": _WORDS,
        "securityContext": {"fsGroup": int, "runAsUser": int, "runAsGroup": int},
        "serviceAccountName": str,
        "tolerations": [{"key": str, "operator": str, "value": str, "effect": str}],
        "volumes": [
            {
                "name": str,
                "persistentVolumeClaim": {"claimName": str, "readOnly": bool},
                "emptyDir": {"medium": str, "sizeLimit": str},
                "secret": {"secretName": str},
            }
        ],
    },
}
_METADATA = {"name": str, "namespace": str, "labels": _WORDS, "annotations": _WORDS}
_CLUSTER: dict[str, Any] = {
    "authOptions": {"mode": {"disabled", "token"}},
    "autoscalerOptions": {
        "env": [dict],
        "envFrom": [dict],
        "idleTimeoutSeconds": int,
        "image": str,
        "imagePullPolicy": str,
        "resources": _RESOURCES,
        "securityContext": dict,
        "upscalingMode": {"Default", "Aggressive", "Conservative"},
        "version": {"v1", "v2"},
        "volumeMounts": [dict],
    },
    "enableInTreeAutoscaling": bool,
    "gcsFaultToleranceOptions": dict,
    "headGroupSpec": {
        "enableIngress": bool,
        "headService": dict,
        "labels": _WORDS,
        "rayStartParams": _WORDS,
        "resources": _WORDS,
        "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"},
        "template": _POD,
    },
    "headServiceAnnotations": _WORDS,
    "managedBy": str,
    "rayVersion": str,
    "suspend": bool,
    "upgradeStrategy": dict,
    "workerGroupSpecs": [
        {
            "groupName": str,
            "idleTimeoutSeconds": int,
            "labels": _WORDS,
            "maxReplicas": int,
            "minReplicas": int,
            "numOfHosts": int,
            "rayStartParams": _WORDS,
            "replicas": int,
            "resources": _WORDS,
            "scaleStrategy": dict,
            "suspend": bool,
            "template": _POD,
        }
    ],
}
KINDS: dict[str, dict[str, Any]] = {
    "RayCluster": {
        "apiVersion": {"ray.io/v1"},
        "kind": str,
        "metadata": _METADATA,
        "spec": _CLUSTER,
    },
    "RayJob": {
        "apiVersion": {"ray.io/v1"},
        "kind": str,
        "metadata": _METADATA,
        "spec": {
            "activeDeadlineSeconds": int,
            "backoffLimit": int,
            "clusterSelector": _WORDS,
            "deletionStrategy": dict,
            "entrypoint": str,
            "entrypointNumCpus": float,
            "entrypointNumGpus": float,
            "entrypointResources": str,
            "jobId": str,
            "managedBy": str,
            "metadata": _WORDS,
            "rayClusterSpec": _CLUSTER,
            "runtimeEnvYAML": str,
            "shutdownAfterJobFinishes": bool,
            "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
            "submitterConfig": {"backoffLimit": int},
            "submitterPodTemplate": _POD,
            "suspend": bool,
            "ttlSecondsAfterFinished": int,
        },
    },
    "PersistentVolumeClaim": {
        "apiVersion": {"v1"},
        "kind": str,
        "metadata": _METADATA,
        "spec": {"accessModes": [str], "storageClassName": str, "resources": _RESOURCES},
    },
}


def faults(value: Any, known: Any, place: str) -> list[str]:
    """Where `value` is not what is `known` of it."""
    if isinstance(known, set):
        return [] if value in known else [f"{place}: {value!r} is none of {sorted(known)}"]
    if isinstance(known, list):
        if not isinstance(value, list):
            return [f"{place}: {value!r} is no list"]
        found = (faults(one, known[0], f"{place}[{i}]") for i, one in enumerate(value))
        return [fault for each in found for fault in each]
    if known is _WORDS:
        wrong = not isinstance(value, dict) or any(type(one) is not str for one in value.values())
        return [f"{place}: {value!r} has values that are no text"] if wrong else []
    if isinstance(known, dict):
        if not isinstance(value, dict):
            return [f"{place}: {value!r} has no fields"]
        strange = [f"{place}.{name} is no field" for name in value if name not in known]
        found = (
            faults(value[name], known[name], f"{place}.{name}") for name in value if name in known
        )
        return strange + [fault for each in found for fault in each]
    return [] if type(value) is known else [f"{place}: {value!r} is no {known.__name__}"]
