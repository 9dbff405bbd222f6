//! Logging a replication session in: SCRAM-SHA-256 with and without channel binding, md5, and the
//! bare password.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding as Bound, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::connection::Connection;
use super::message::{garbled, parse};
use crate::config::Secret;
use crate::error::{Error, Fault, Result};
use crate::postgres::{ChannelBinding, NO_PASSWORD, Url, clear_text, lost};

/// Answers the server's demands until it is content.
pub(super) async fn log_in(connection: &mut Connection, url: &Url) -> Result<()> {
    let demand = receive(connection).await?;
    let bound = matches!(demand, Message::AuthenticationSasl(_));
    if url.channel_binding == ChannelBinding::Require && !bound {
        return Err(unbound());
    }
    match demand {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword if !connection.socket().is_private() => return Err(clear_text()),
        Message::AuthenticationCleartextPassword => {
            let password = password(url).await?;
            send(connection, |out| frontend::password_message(password.expose().as_bytes(), out)).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            let password = password(url).await?;
            let hash = md5_hash(url.user.as_bytes(), password.expose().as_bytes(), body.salt());
            send(connection, |out| frontend::password_message(hash.as_bytes(), out)).await?;
        }
        Message::AuthenticationSasl(body) => scram(connection, url, &body).await?,
        _ => {
            return Err(Error::new(Fault::Environment, "the server wants a way to log in that is not supported here")
                .help("let it use `scram-sha-256` for this user in pg_hba.conf"));
        }
    }
    match receive(connection).await? {
        Message::AuthenticationOk => Ok(()),
        _ => Err(out_of_order()),
    }
}

async fn scram(connection: &mut Connection, url: &Url, offered: &AuthenticationSaslBody) -> Result<()> {
    let mechanisms: Vec<_> = offered.mechanisms().map(|name| Ok(name.to_owned())).collect().map_err(garbled)?;
    let offers = |name: &str| mechanisms.iter().any(|offered| offered == name);
    let hash = connection.socket().binding().filter(|_| url.channel_binding != ChannelBinding::Disable);
    let (mechanism, binding) = match hash {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => (SCRAM_SHA_256_PLUS, Bound::tls_server_end_point(hash.to_vec())),
        _ if url.channel_binding == ChannelBinding::Require => return Err(unbound()),
        // Says that we could have bound: a man in the middle who removed the offer is found out.
        Some(_) => (SCRAM_SHA_256, Bound::unrequested()),
        None => (SCRAM_SHA_256, Bound::unsupported()),
    };
    if !offers(mechanism) {
        return Err(Error::new(Fault::Environment, "the server offers no SASL mechanism that is supported here")
            .help("let it use `scram-sha-256` for this user in pg_hba.conf"));
    }
    let mut scram = ScramSha256::new(password(url).await?.expose().as_bytes(), binding);
    send(connection, |out| frontend::sasl_initial_response(mechanism, scram.message(), out)).await?;
    let Message::AuthenticationSaslContinue(challenge) = receive(connection).await? else {
        return Err(out_of_order());
    };
    scram.update(challenge.data()).map_err(refused)?;
    send(connection, |out| frontend::sasl_response(scram.message(), out)).await?;
    let Message::AuthenticationSaslFinal(proof) = receive(connection).await? else {
        return Err(out_of_order());
    };
    scram.finish(proof.data()).map_err(refused)
}

async fn receive(connection: &mut Connection) -> Result<Message> {
    loop {
        let frame = connection.receive().await?;
        // NegotiateProtocolVersion: we ask for nothing that an older server could lack.
        if frame.tag != b'v' {
            return parse(frame);
        }
    }
}

async fn send(connection: &mut Connection, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
    let mut out = BytesMut::new();
    write(&mut out).map_err(|error| lost("the login cannot be sent", error))?;
    connection.send(&out).await
}

async fn password(url: &Url) -> Result<Secret> {
    let password = url.password().await?;
    password
        .ok_or_else(|| Error::new(Fault::Config, "the server asks for a password and none is given").help(NO_PASSWORD))
}

fn unbound() -> Error {
    Error::new(Fault::Environment, "the server does not bind the login to the TLS connection").help(
        "`channel_binding=require` needs TLS and a password kept as scram-sha-256; take it out of `url` to go without",
    )
}

fn refused(error: std::io::Error) -> Error {
    Error::new(Fault::Environment, "the server did not prove that it knows the password").because(error).help(
        "check that `url` leads to the right server; a server with `scram_iterations` above 100000 is not supported",
    )
}

fn out_of_order() -> Error {
    Error::new(Fault::Environment, "the server's messages for the login come out of order")
}
