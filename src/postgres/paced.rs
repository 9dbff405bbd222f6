//! `Paced`: a stream's socket, read in large pieces while much arrives, and at once while little
//! does.
//!
//! A walsender sends each row by itself. Somebody who waits for the next byte is woken for each,
//! which costs him more than the row, and the walsender, too. So a reader whom many small pieces
//! reach takes the socket off the reactor, where it can wake nobody, and looks for what has come
//! when a rest is over. If server and host are one machine, the window is kept small as well: while
//! it is full, the kernel only copies what the walsender sends, and passes it on in large pieces.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep_until};

/// Time in which pieces gather while much arrives. The timer adds up to one more millisecond.
const REST: Duration = Duration::from_millis(1);
/// Pieces within a rest's time from which on much arrives.
const MANY: u32 = 16;
/// Bytes after a rest below which little arrives: those of about a dozen rows.
const LITTLE: usize = 2 << 10;
/// Bytes that one read may bring. A reader fills its buffer with zeros first, so more is not
/// better.
const PIECE: usize = 64 << 10;
/// Bytes of the receive buffer where server and host are one machine.
const NARROW: usize = 128 << 10;

/// A socket of tokio's that can be taken off the reactor.
pub(super) trait Watched: AsyncRead + AsyncWrite + Unpin + Sized {
    /// The same socket without it.
    type Plain: Read + Write + Unpin;

    fn unwatch(self) -> io::Result<Self::Plain>;

    fn watch(plain: Self::Plain) -> io::Result<Self>;

    /// Makes the receive buffer small, where that costs nothing.
    fn narrow(&self);
}

impl Watched for TcpStream {
    type Plain = std::net::TcpStream;

    fn unwatch(self) -> io::Result<Self::Plain> {
        self.into_std()
    }

    fn watch(plain: Self::Plain) -> io::Result<Self> {
        Self::from_std(plain)
    }

    fn narrow(&self) {
        // Over a network the window must hold what is on its way.
        let here = matches!((self.local_addr(), self.peer_addr()), (Ok(own), Ok(peer)) if own.ip() == peer.ip());
        if here && let Err(error) = SockRef::from(self).set_recv_buffer_size(NARROW) {
            tracing::debug!(%error, "the receive buffer stays as it is");
        }
    }
}

impl Watched for UnixStream {
    type Plain = std::os::unix::net::UnixStream;

    fn unwatch(self) -> io::Result<Self::Plain> {
        self.into_std()
    }

    fn watch(plain: Self::Plain) -> io::Result<Self> {
        Self::from_std(plain)
    }

    fn narrow(&self) {}
}

/// A socket, and how it is read.
pub(super) struct Paced<S: Watched> {
    socket: Place<S>,
    pace: Option<Pace>,
    /// Somebody waits for room to write, of which only the reactor tells.
    writer_waits: bool,
}

/// The place of a socket.
enum Place<S: Watched> {
    /// On the reactor: whatever arrives wakes the reader.
    On(S),
    /// Off it: nothing wakes the reader but the end of his rest.
    Off(S::Plain),
    /// It could not be put back.
    Lost,
}

/// Measures how much arrives.
struct Pace {
    /// When the pieces were first counted.
    since: Instant,
    pieces: u32,
    /// Bytes since the last rest.
    gathered: usize,
    /// The end of the rest.
    rest: Pin<Box<Sleep>>,
    /// Nothing is read before the rest is over.
    resting: bool,
}

impl<S: Watched> Paced<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket: Place::On(socket), pace: None, writer_waits: false }
    }

    /// From now on a stream is read.
    pub(super) fn begin(&mut self) {
        if let Place::On(socket) = &self.socket {
            socket.narrow();
        }
        let now = Instant::now();
        self.pace = Some(Pace { since: now, pieces: 0, gathered: 0, rest: Box::pin(sleep_until(now)), resting: false });
    }

    /// Puts the socket back on the reactor.
    fn watch(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.socket, Place::Lost) {
            Place::Off(plain) => self.socket = Place::On(S::watch(plain)?),
            place => self.socket = place,
        }
        if let Some(pace) = &mut self.pace {
            pace.count_anew(Instant::now());
        }
        Ok(())
    }

    fn unwatch(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.socket, Place::Lost) {
            Place::On(socket) => self.socket = Place::Off(socket.unwatch()?),
            place => self.socket = place,
        }
        Ok(())
    }

    /// The socket on the reactor, wherever it was.
    fn on(&mut self) -> io::Result<&mut S> {
        if matches!(self.socket, Place::Off(_)) {
            self.watch()?;
        }
        match &mut self.socket {
            Place::On(socket) => Ok(socket),
            Place::Off(_) | Place::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Pace {
    fn count_anew(&mut self, now: Instant) {
        (self.since, self.pieces, self.gathered, self.resting) = (now, 0, 0, false);
    }

    /// Counts a piece that came by itself; true if they have become many.
    fn count(&mut self, now: Instant) -> bool {
        if now - self.since > REST {
            self.count_anew(now);
        }
        self.pieces += 1;
        self.pieces >= MANY
    }

    fn begin_rest(&mut self, now: Instant) {
        self.rest.as_mut().reset(now + REST);
        (self.resting, self.gathered) = (true, 0);
    }
}

impl<S: Watched> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match (&mut this.socket, &mut this.pace) {
                (Place::On(socket), None) => return Pin::new(socket).poll_read(cx, buf),
                (Place::On(socket), Some(pace)) => {
                    let (room, before) = (buf.remaining(), buf.filled().len());
                    ready!(Pin::new(socket).poll_read(cx, buf))?;
                    let read = buf.filled().len() - before;
                    let now = Instant::now();
                    // What fills the buffer has waited: nobody was woken for it.
                    if read > 0 && read < room && pace.count(now) && !this.writer_waits {
                        pace.begin_rest(now);
                        this.unwatch()?;
                    }
                    return Poll::Ready(Ok(()));
                }
                (Place::Off(socket), Some(pace)) => {
                    if pace.resting {
                        ready!(pace.rest.as_mut().poll(cx));
                        pace.resting = false;
                    }
                    let room = buf.initialize_unfilled_to(buf.remaining().min(PIECE));
                    let most = room.len();
                    let read = match socket.read(room) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                        read => Some(read?),
                    };
                    let bytes = read.unwrap_or_default();
                    buf.advance(bytes);
                    pace.gathered += bytes;
                    // What fills the room may not be all that has come.
                    if bytes < most {
                        match pace.gathered < LITTLE {
                            true => this.watch()?,
                            false => pace.begin_rest(Instant::now()),
                        }
                    }
                    if read.is_some() {
                        return Poll::Ready(Ok(()));
                    }
                }
                (Place::Off(_), None) | (Place::Lost, _) => {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                }
            }
        }
    }
}

impl<S: Watched> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Place::Off(socket) = &mut self.socket {
            match socket.write(buf) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                result => return Poll::Ready(result),
            }
        }
        let written = Pin::new(self.on()?).poll_write(cx, buf);
        self.writer_waits = written.is_pending();
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // sockets keep nothing back
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.on()?).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn tcp() -> (Paced<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (socket, peer) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut paced, peer) = (Paced::new(socket.unwrap()), peer.unwrap().0);
        peer.set_nodelay(true).unwrap();
        paced.begin();
        (paced, peer)
    }

    fn unix() -> (Paced<UnixStream>, UnixStream) {
        let (socket, peer) = UnixStream::pair().unwrap();
        let mut paced = Paced::new(socket);
        paced.begin();
        (paced, peer)
    }

    fn rests<S: Watched>(paced: &Paced<S>) -> bool {
        matches!(paced.socket, Place::Off(_))
    }

    /// Sends and reads so many pieces one by one, so that each comes by itself.
    async fn pieces<S: Watched, P: AsyncWrite + Unpin>(paced: &mut Paced<S>, peer: &mut P, number: u32) {
        let mut piece = [0; 256];
        for _ in 0..number {
            peer.write_all(b"row").await.unwrap();
            assert_eq!(paced.read(&mut piece).await.unwrap(), 3);
        }
    }

    /// Lets it take its socket off the reactor: pieces one after the other, until they came quickly
    /// enough.
    async fn busy<S: Watched, P: AsyncWrite + Unpin>(paced: &mut Paced<S>, peer: &mut P) {
        for _ in 0..100_000 {
            if rests(paced) {
                return;
            }
            pieces(paced, peer, 1).await;
        }
        panic!("it is woken for each piece");
    }

    async fn everything_comes_in_order<S: Watched, P: AsyncWrite + Unpin + Send + 'static>(
        (mut paced, mut peer): (Paced<S>, P),
    ) {
        let numbers: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
        let sent = numbers.clone();
        let sender = tokio::spawn(async move {
            for piece in sent.chunks(7) {
                peer.write_all(piece).await.unwrap();
            }
        });
        let (mut came, mut reads) = (Vec::new(), 0);
        while paced.read_buf(&mut came).await.unwrap() > 0 {
            came.reserve(PIECE);
            reads += 1;
        }
        sender.await.unwrap();
        assert!(came == numbers, "{} of {} bytes came, or not in order", came.len(), numbers.len());
        let sent = numbers.len() / 7;
        assert!(reads < sent / 10, "it took {reads} reads for {sent} pieces");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_comes_in_order_and_few_are_woken_for_it() {
        everything_comes_in_order(tcp().await).await;
        everything_comes_in_order(unix()).await;
    }

    #[tokio::test]
    async fn little_is_handed_on_at_once() {
        let (mut paced, mut peer) = unix();
        for _ in 0..5 {
            pieces(&mut paced, &mut peer, MANY - 1).await;
            assert!(!rests(&paced));
            tokio::time::sleep(REST * 2).await;
        }
        busy(&mut paced, &mut peer).await;
        // What comes now waits for the end of the rest, and is too little for another one.
        pieces(&mut paced, &mut peer, 1).await;
        assert!(!rests(&paced));
        pieces(&mut paced, &mut peer, MANY - 1).await;
        assert!(!rests(&paced));
    }

    #[tokio::test]
    async fn silence_puts_it_back_where_the_next_byte_wakes_it() {
        let (mut paced, mut peer) = unix();
        busy(&mut paced, &mut peer).await;
        let mut piece = [0; 256];
        let nothing = tokio::time::timeout(REST * 4, paced.read(&mut piece)).await;
        assert!(nothing.is_err() && !rests(&paced));
        pieces(&mut paced, &mut peer, 1).await;
    }

    #[tokio::test]
    async fn an_end_during_a_rest_is_an_end() {
        let (mut paced, mut peer) = tcp().await;
        busy(&mut paced, &mut peer).await;
        peer.write_all(b"last").await.unwrap();
        drop(peer);
        let mut rest = Vec::new();
        paced.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last");
    }

    #[tokio::test]
    async fn who_waits_for_room_to_write_is_told_of_it_however_much_arrives() {
        let (paced, mut peer) = tcp().await;
        let (mut reader, mut writer) = tokio::io::split(paced);
        let written = tokio::spawn(async move { writer.write_all(&vec![7; 16 << 20]).await });
        let mut piece = [0; 256];
        for _ in 0..1000 {
            peer.write_all(b"row").await.unwrap();
            assert_eq!(reader.read(&mut piece).await.unwrap(), 3);
        }
        assert!(!written.is_finished(), "there was room for all of it");
        let heard = tokio::spawn(async move { peer.read_exact(&mut vec![0; 16 << 20]).await });
        tokio::time::timeout(Duration::from_secs(60), written).await.expect("it is written").unwrap().unwrap();
        heard.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_written_during_a_rest_arrives_also_when_there_is_no_room_for_it() {
        let (mut paced, mut peer) = tcp().await;
        busy(&mut paced, &mut peer).await;
        paced.write_all(b"status").await.unwrap();
        assert!(rests(&paced));
        let large = vec![7; 8 << 20];
        let heard = tokio::spawn(async move {
            let mut heard = vec![0; 6 + (8 << 20)];
            peer.read_exact(&mut heard).await.map(|_| (heard, peer))
        });
        paced.write_all(&large).await.unwrap();
        let (heard, mut peer) = heard.await.unwrap().unwrap();
        assert!(heard.starts_with(b"status") && heard.ends_with(&large));
        pieces(&mut paced, &mut peer, 3).await;
    }
}
