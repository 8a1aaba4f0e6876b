// Calls a model API over and over with the TLS of the Java runtime, each time on a new connection.

import java.io.FileInputStream;
import java.io.IOException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Caller {
    public static void main(String[] arguments) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(System.getenv("SSL_CERT_FILE"))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        byte[] body = "{\"model\":\"gpt-4o-mini\",\"messages\":[]}".getBytes(StandardCharsets.UTF_8);
        while (true) {
            HttpsURLConnection connection =
                    (HttpsURLConnection) new URL("https://api.openai.com/v1/chat/completions").openConnection();
            connection.setSSLSocketFactory(context.getSocketFactory());
            connection.setRequestProperty("connection", "close");
            connection.setRequestProperty("content-type", "application/json");
            connection.setDoOutput(true);
            try {
                connection.getOutputStream().write(body);
                connection.getInputStream().readAllBytes();
            } catch (IOException refused) {
                // It calls again.
            }
            Thread.sleep(500);
        }
    }
}
