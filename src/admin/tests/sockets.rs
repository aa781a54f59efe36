//! The same over sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::*;

async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, head: &str) -> String {
    stream.write_all(format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_door_decides_what_can_be_changed() {
    let fixture = Fixture::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let tcp = Socket::bind(&ListenAddr::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
    let unix = Socket::bind(&ListenAddr::Unix(path.clone())).unwrap();
    let Ok(ListenAddr::Tcp(address)) = tcp.local_addr() else { panic!("not TCP") };
    let (stop, stopping) = tokio::sync::watch::channel(());
    let until =
        |mut stopping: tokio::sync::watch::Receiver<()>| async move { drop(stopping.changed().await) };
    let servers = [tcp, unix]
        .map(|socket| tokio::spawn(Arc::clone(&fixture.admin).serve(socket, until(stopping.clone()))));

    let call = "POST /partners/acme/refresh HTTP/1.1\r\nContent-Length: 0";
    let answer = ask(TcpStream::connect(address).await.unwrap(), call).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let answer = ask(UnixStream::connect(&path).await.unwrap(), call).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = ask(TcpStream::connect(address).await.unwrap(), "GET /livez HTTP/1.1").await;
    assert!(answer.ends_with("ok\n"), "{answer}");

    // Connections without a call do not hold up the end, whether they have had one or not.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut idle = UnixStream::connect(&path).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    idle.read_u8().await.unwrap();
    drop(stop);
    for server in servers {
        tokio::time::timeout(Duration::from_secs(4), server).await.unwrap().unwrap().unwrap();
    }
    assert!(TcpStream::connect(address).await.is_err());
}
