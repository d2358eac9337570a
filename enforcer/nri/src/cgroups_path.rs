//! Where a container's cgroup is going to be, as runtimes write it.

/// The path of a cgroup from the root of the hierarchy. `SLICE:PREFIX:NAME` is how runtimes with systemd's driver ask for
/// a scope; anything else is a path already.
#[must_use]
pub fn resolved(notation: &str) -> String {
    let mut parts = notation.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(name)) if !slice.contains('/') => {
            let dash = if prefix.is_empty() { "" } else { "-" };
            format!("{}/{prefix}{dash}{name}.scope", slice_path(slice))
        }
        _ if notation.starts_with('/') => notation.to_owned(),
        _ => format!("/{notation}"),
    }
}

/// The path of a slice: its name lists those above it, with dashes between.
fn slice_path(slice: &str) -> String {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name.is_empty() || name == "-" {
        return String::new();
    }
    let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
    ends.filter_map(|end| name.get(..end)).map(|slice| format!("/{slice}.slice")).collect()
}

#[cfg(test)]
mod tests {
    use super::resolved;

    #[test]
    fn notations() {
        let table = [
            ("/kubepods/burstable/pod1/abc", "/kubepods/burstable/pod1/abc"),
            ("kubepods/abc", "/kubepods/abc"),
            (
                "kubepods-burstable-pod1.slice:cri-containerd:abc",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope",
            ),
            ("system.slice:crio:abc", "/system.slice/crio-abc.scope"),
            ("-.slice:cri-containerd:abc", "/cri-containerd-abc.scope"),
            (":cri-containerd:abc", "/cri-containerd-abc.scope"),
            ("user.slice::abc", "/user.slice/abc.scope"),
            ("/odd:but:a/path", "/odd:but:a/path"),
            ("", "/"),
        ];
        for (notation, expected) in table {
            assert_eq!(resolved(notation), expected, "{notation}");
        }
    }
}
