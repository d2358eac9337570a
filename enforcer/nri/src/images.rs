//! Which image a container was made of, by the word of its runtime: the part of the container runtime interface (CRI) that
//! says what NRI of most runtimes does not.

use std::{path::Path, time::Duration};

use crate::grpc::{Channel, GrpcError};

/// Digests that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The runtime does not say.
    #[error("the runtime does not say which image the container has: {0}")]
    Ask(#[from] GrpcError),
    /// It says something else.
    #[error("the runtime knows no digest of the container's image; it calls it {0:?}")]
    NoDigest(String),
}

/// The runtime as somebody who knows images.
#[derive(Clone, Debug)]
pub struct Images {
    channel: Channel,
}

impl Images {
    /// The runtime that listens there for CRI.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { channel: Channel::at(socket) }
    }

    /// The digests by which a container's image is known: of its configuration, and of manifests that it was pulled by.
    /// Never none.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn of_container(&self, id: &str, patience: Duration) -> Result<Vec<String>, ImageError> {
        let question = ContainerStatusRequest { container_id: id.to_owned() };
        let answer: ContainerStatusResponse =
            self.channel.ask("runtime.v1.RuntimeService/ContainerStatus", &question, patience)?;
        let status = answer.status.unwrap_or_default();
        let reference =
            if status.image_id.is_empty() { status.image_ref.clone() } else { status.image_id.clone() };
        let question = ImageStatusRequest { image: Some(ImageSpec { image: reference.clone() }) };
        let answer: ImageStatusResponse =
            self.channel.ask("runtime.v1.ImageService/ImageStatus", &question, patience)?;
        let image = answer.image.unwrap_or_default();
        let names = [status.image_ref, status.image_id, image.id].into_iter().chain(image.repo_digests);
        let mut digests: Vec<String> =
            names.filter_map(|name| digest(&name).map(ToOwned::to_owned)).collect();
        digests.sort();
        digests.dedup();
        if digests.is_empty() { Err(ImageError::NoDigest(reference)) } else { Ok(digests) }
    }
}

/// The digest in a name: the name itself, or what is after the `@`.
pub(crate) fn digest(name: &str) -> Option<&str> {
    let digest = name.rsplit_once('@').map_or(name, |(_, digest)| digest);
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))).then_some(digest)
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ContainerStatusRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ContainerStatus {
    #[prost(string, tag = "9")]
    image_ref: String,
    #[prost(string, tag = "17")]
    image_id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Image {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "3")]
    repo_digests: Vec<String>,
}

#[cfg(test)]
pub(crate) mod tests {
    use prost::Message as _;

    use super::*;
    use crate::grpc::tests::{Script, service};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a runtime says of a container whose image has these names.
    pub(crate) fn runtime(reference: &str, id: &str, digests: &[&str]) -> Vec<(&'static str, Script)> {
        let status = ContainerStatus { image_ref: reference.into(), image_id: String::new() };
        let status = ContainerStatusResponse { status: Some(status) };
        let digests = digests.iter().map(|digest| (*digest).to_owned()).collect();
        let image = ImageStatusResponse { image: Some(Image { id: id.into(), repo_digests: digests }) };
        vec![
            ("runtime.v1.RuntimeService/ContainerStatus", Script::Says(status.encode_to_vec())),
            ("runtime.v1.ImageService/ImageStatus", Script::Says(image.encode_to_vec())),
        ]
    }

    pub(crate) fn sha(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    #[test]
    fn all_names_of_an_image_that_are_digests() {
        let manifest = format!("shop.example/web@{}", sha('b'));
        let script = runtime(&manifest, &sha('a'), &[&manifest, "shop.example/web:1"]);
        let (_directory, channel) = service(script);
        let images = Images { channel }.of_container("1f", PATIENCE).unwrap();
        assert_eq!(images, [sha('a'), sha('b')]);
    }

    #[test]
    fn no_digest_is_no_answer() {
        let (_directory, channel) = service(runtime("web:1", "", &[]));
        let error = Images { channel }.of_container("1f", PATIENCE).unwrap_err();
        assert!(matches!(&error, ImageError::NoDigest(name) if name == "web:1"), "{error}");
        let (_directory, channel) =
            service(vec![("runtime.v1.RuntimeService/ContainerStatus", Script::Fails(5, "not found"))]);
        let error = Images { channel }.of_container("1f", PATIENCE).unwrap_err();
        assert!(matches!(error, ImageError::Ask(_)), "{error}");
    }

    #[test]
    fn digests_in_names() {
        let good = sha('0');
        assert_eq!(digest(&good), Some(good.as_str()));
        assert_eq!(digest(&format!("r/x@{good}")), Some(good.as_str()));
        for bad in ["", "web:1", "sha256:00", "r@sha256:", &sha('G'), &sha('A')] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
