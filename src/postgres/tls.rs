//! TLS as libpq's `sslmode` means it, on rustls; and the hash by which SCRAM is bound to a TLS
//! connection.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, SliceReader, TagNumber};
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::url::{Root, Ssl, SslMode, Url};
use crate::config::read_beneath;
use crate::error::{Error, Fault, Result};

/// Bytes of a file with root certificates: those of all public authorities, or of a cloud's, have a
/// quarter of it.
const ROOTS: u64 = 1 << 20;
/// Bytes of a file with our certificate, and of one with its key.
const IDENTITY: u64 = 64 << 10;

/// The client side of TLS for one URL. Reads the files that it names, so that renewed ones are
/// taken up at the next connection.
pub(super) async fn config(url: &Url) -> Result<ClientConfig> {
    let (ssl, folder) = (url.ssl.clone(), url.folder().map(Path::to_owned));
    let read = tokio::task::spawn_blocking(move || build(&ssl, folder.as_deref())).await;
    read.unwrap_or_else(|panic| Err(Error::new(Fault::Bug, "TLS cannot be set up").because(panic)))
}

fn build(ssl: &Ssl, folder: Option<&Path>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Fault::Bug, "TLS cannot be set up").because(error))?;
    let verifier = Verifier { chain: chain(ssl, folder, &provider)?, provider };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &ssl.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificates = certificates(certificate, folder, "sslcert", IDENTITY)?;
            let unusable = || {
                Error::new(Fault::Config, format!("`sslkey={}` cannot be used", key.display()))
                    .help("give a PEM file with one private key that has no passphrase")
            };
            let key = read_beneath(key, folder, IDENTITY).map_err(|error| unusable().because(error))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| unusable().because(error))?;
            builder.with_client_auth_cert(certificates, key).map_err(|error| {
                Error::new(Fault::Config, "`sslcert` and `sslkey` cannot be used together")
                    .because(error)
                    .help("give the key that belongs to the certificate")
            })?
        }
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

/// Returns the verifier of the server's chain, and true if the host name counts too. None if any
/// certificate will do.
fn chain(
    ssl: &Ssl,
    folder: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<(Arc<WebPkiServerVerifier>, bool)>> {
    // libpq checks the chain in `require`, too, once a root certificate is given.
    if ssl.mode < SslMode::VerifyCa && !(ssl.mode == SslMode::Require && ssl.root.is_some()) {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    let what = match &ssl.root {
        Some(Root::File(path)) => {
            for certificate in certificates(path, folder, "sslrootcert", ROOTS)? {
                roots.add(certificate).map_err(|error| unusable(path, "sslrootcert").because(error))?;
            }
            format!("`sslrootcert={}`", path.display())
        }
        Some(Root::System) | None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the system's store of certificates".to_owned()
        }
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let verifier = verifier.map_err(|error| {
        Error::new(Fault::Environment, format!("{what} holds no usable certificate"))
            .because(error)
            .help("install the package `ca-certificates`, or name a file: `sslrootcert=<PEM file>`")
    })?;
    Ok(Some((verifier, ssl.mode == SslMode::VerifyFull)))
}

fn certificates(
    path: &Path,
    folder: Option<&Path>,
    parameter: &str,
    most: u64,
) -> Result<Vec<CertificateDer<'static>>> {
    let text = read_beneath(path, folder, most).map_err(|error| unusable(path, parameter).because(error))?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, parameter)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(path, parameter).because(error)),
    }
}

fn unusable(path: &Path, parameter: &str) -> Error {
    Error::new(Fault::Config, format!("`{parameter}={}` cannot be used", path.display()))
        .help("give a readable PEM file with at least one certificate")
}

/// Checks as much of the server's certificate as the mode asks for, and always that the server
/// holds its key.
#[derive(Debug)]
struct Verifier {
    chain: Option<(Arc<WebPkiServerVerifier>, bool)>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some((chain, name_counts)) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // webpki looks at the name only after the chain has been found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !name_counts => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` of RFC 5929: the certificate's hash by its signature's own digest. None
/// where there is no such digest (Ed25519); SCRAM then goes unbound.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = parsed.signature_algorithm();
    let digest = match algorithm.oid {
        RSASSA_PSS => pss_digest(algorithm)?,
        oid => oid,
    };
    Some(match digest {
        // The weak digests are replaced by SHA-256, says the RFC.
        MD5_RSA | SHA1_RSA | SHA1_ECDSA | SHA1 | SHA256_RSA | SHA256_ECDSA | SHA256 => {
            Sha256::digest(certificate).to_vec()
        }
        SHA384_RSA | SHA384_ECDSA | SHA384 => Sha384::digest(certificate).to_vec(),
        SHA512_RSA | SHA512_ECDSA | SHA512 => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}

/// RSASSA-PSS names its digest in its parameters (RFC 4055), SHA-1 where it does not.
fn pss_digest(algorithm: &AlgorithmIdentifierOwned) -> Option<ObjectIdentifier> {
    let parameters = algorithm.parameters.as_ref()?.to_der().ok()?;
    let mut reader = SliceReader::new(&parameters).ok()?;
    let body = x509_cert::der::asn1::AnyRef::decode(&mut reader).ok()?;
    let mut reader = SliceReader::new(body.value()).ok()?;
    let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber(0)).ok()?;
    Some(hash.map_or(SHA1, |hash| hash.value.oid))
}

const MD5_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
const SHA1_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA256_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const SHA1_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const SHA256_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SHA384_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const SHA512_ECDSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_hashed_with_the_digest_of_its_signature() {
        let hashed = |name: &str| {
            let path = format!("{}/tests/it/tls/{name}.crt", env!("CARGO_MANIFEST_DIR"));
            let certificate = CertificateDer::from_pem_file(path).unwrap();
            (end_point(&certificate), certificate)
        };
        for name in ["localhost", "rsa"] {
            let (hash, certificate) = hashed(name);
            assert_eq!(hash, Some(Sha256::digest(&certificate).to_vec()), "{name}");
        }
        let (hash, certificate) = hashed("sha384");
        assert_eq!(hash, Some(Sha384::digest(&certificate).to_vec()));
        let (hash, certificate) = hashed("rsa-pss");
        assert_eq!(hash, Some(Sha512::digest(&certificate).to_vec()));
        assert_eq!(hashed("ed25519").0, None, "has no digest of its own");
        assert_eq!(end_point(&CertificateDer::from(&b"noise"[..])), None);
    }
}
